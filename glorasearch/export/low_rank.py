"""A merged model as its backbone with low-rank factors, biases, and replaced modules: the form of PEFT's LoRA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor, nn

from glorasearch.adapters import rows_of
from glorasearch.choices import Contribution, Dense, LowRank
from glorasearch.errors import InputError
from glorasearch.export.adapted import AdaptedModel
from glorasearch.export.timm_directory import timm_state
from glorasearch.space import SUPPORT_TENSORS

SHOWN: Final = 6
"""Genes that a message names."""


@dataclass(slots=True)
class LowRankForm:
    """What is added to the backbone's layers, and what takes the place of its modules; on the CPU."""

    merged: dict[str, Tensor]
    """The tensors of the merged model, as timm names them."""
    factors: dict[str, LowRank] = field(default_factory=dict)
    """Layer → `down (out, r)` and `up (r, in)`, whose product is added to its weight, seen as `(out, in)`."""
    biases: dict[str, Tensor] = field(default_factory=dict)
    """Layer → its new bias `(out,)`."""
    modules: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    """Module → all its tensors: heads, norms, convolutions in groups."""
    lossy: list[str] = field(default_factory=list)
    """Layers whose shift is approximated."""
    weight_error: float = 0.0
    """Norm of what is lost of the shifts of these layers, relative to the norm of the shifts."""


@torch.no_grad()
def low_rank_form(adapted: AdaptedModel, lossy_rank: int | None = None) -> LowRankForm:
    """The form of an adapted model; shifts that are not low-rank are approximated by `lossy_rank`, if that is given.

    Raises:
        InputError: naming the genes that have no such form.
    """
    state, _ = timm_state(adapted.model, adapted.facts, adapted.input_size)
    form = LowRankForm({name: value.detach().cpu() for name, value in state.items()})
    base = {name: value.detach().cpu() for name, value in adapted.backbone.state_dict().items()}
    gained = [name.removesuffix(".bias") for name in form.merged if name not in base]
    refused = _genes(adapted, gained, _adds_bias)
    if refused:
        raise InputError(
            f"format peft: {_listed(refused)} give a bias to layers that have none, and PEFT's LoRA cannot: take the "
            "format adapter or timm"
        )
    changed = [name for name, value in form.merged.items() if not torch.equal(value, base[name])]
    products = [name for name, layer in adapted.supernet.adapted.items() if takes_factors(layer.base)]
    form.biases = {name: form.merged[key] for name in products if (key := f"{name}.bias") in changed}
    wholes = {name.rpartition(".")[0] for name in changed} - {*products}
    wholes |= set(adapted.supernet.heads)
    for name in sorted(name for name in wholes if not any(name.startswith(f"{other}.") for other in wholes)):
        form.modules[name] = {key: value for key, value in form.merged.items() if key.startswith(f"{name}.")}
    shifted = [name for name in products if f"{name}.weight" in changed]
    dense = _genes(adapted, shifted, _is_dense)
    if dense and lossy_rank is None:
        raise InputError(
            f"format peft: the winner is not LoRA with biases: {_listed(dense)} shift the weight by more than a "
            "product of low rank. --lossy-rank R approximates that by rank R and measures the error; the formats "
            "adapter and timm are exact"
        )
    form.lossy = [name for name in shifted if any(gene.startswith(f"{name}.") for gene in dense)]
    for name in shifted:
        if name not in form.lossy:
            form.factors[name] = _factors(adapted, name)
    if form.lossy:
        assert lossy_rank is not None
        _approximate(form, base, lossy_rank)
    return form


def _approximate(form: LowRankForm, base: dict[str, Tensor], rank: int) -> None:
    """The best factors of a rank for the layers whose shifts have none, by singular values in float64."""
    whole = lost = 0.0
    for name in form.lossy:
        weight = f"{name}.weight"
        left, values, right = torch.linalg.svd(
            rows_of(form.merged[weight].double() - base[weight].double()), full_matrices=False
        )
        form.factors[name] = LowRank((left[:, :rank] * values[:rank]).float(), right[:rank].float())
        whole, lost = whole + float(values.square().sum()), lost + float(values[rank:].square().sum())
    form.weight_error = (lost / whole) ** 0.5 if whole else 0.0


def _factors(adapted: AdaptedModel, name: str) -> LowRank:
    """What the choices of a layer add to its weight, side by side."""
    layer = adapted.supernet.adapted[name]
    downs, ups = [], []
    for one in layer.contributions(adapted.subnet.layer(name)):
        if isinstance(one.shift, LowRank):
            downs.append(one.shift.down)
            ups.append(one.shift.up)
        elif isinstance(one.shift, Tensor):  # a value for each row
            downs.append(one.shift.expand(layer.out_features).unsqueeze(1))
            ups.append(one.shift.new_ones(1, layer.in_features))
    return LowRank(torch.cat(downs, dim=1).cpu().contiguous(), torch.cat(ups).cpu().contiguous())


def takes_factors(base: nn.Module) -> bool:
    """Whether PEFT adds and merges factors there."""
    return isinstance(base, nn.Linear) or (isinstance(base, nn.Conv2d) and base.groups == 1)


def _is_dense(one: Contribution) -> bool:
    return one.scale is not None or isinstance(one.shift, Dense)


def _adds_bias(one: Contribution) -> bool:
    return one.bias_shift is not None or one.prompt is not None


def _genes(adapted: AdaptedModel, layers: Sequence[str], wanted: Callable[[Contribution], bool]) -> list[str]:
    """Layer, support tensor and choice of the genes of these layers whose contribution is so."""
    found = []
    for name in layers:
        layer = adapted.supernet.adapted[name]
        for tensor, choice in zip(SUPPORT_TENSORS, adapted.subnet.layer(name), strict=True):
            if choice != "none" and wanted(layer.support_of(tensor).contribution(choice, layer.weight_view)):
                found.append(f"{name}.{tensor} = {choice}")
    return found


def _listed(genes: Sequence[str]) -> str:
    more = f" and {len(genes) - SHOWN} more genes" if len(genes) > SHOWN else ""
    return ", ".join(genes[:SHOWN]) + more
