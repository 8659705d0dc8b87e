"""An adapter for PEFT: `PeftModel.from_pretrained(backbone, folder)`, and `merge_and_unload()` for the merged model."""

from __future__ import annotations

import copy
import re
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import torch
from torch import Tensor, nn

from glorasearch.adapters import adaptable_layers
from glorasearch.errors import ExportError, InputError, reason
from glorasearch.export.adapted import AdaptedModel
from glorasearch.export.folder import read_manifest
from glorasearch.export.low_rank import LowRankForm, low_rank_form, takes_factors
from glorasearch.tasks import task_of

EXACT: Final = 1e-5
"""Largest difference of a merged weight, relative to the largest of its tensor where that is above 1."""
MERGE_FIRST: Final = (
    "call merge_and_unload() before use: this architecture does not compute what PEFT adds to its layers otherwise"
)


def check_peft(adapted: AdaptedModel, lossy_rank: int | None) -> None:
    """Raise `InputError` if PEFT is not installed, or the model is not LoRA with biases."""
    _peft()
    form = low_rank_form(adapted, lossy_rank)
    try:
        _adapt(adapted, form)
    except Exception as error:  # PEFT finds modules by the ends of their names
        raise InputError(
            f"format peft: PEFT cannot adapt {adapted.facts.architecture}: {reason(error)}; the formats adapter and "
            "timm do without it"
        ) from error


def write_peft(adapted: AdaptedModel, folder: Path, lossy_rank: int | None) -> dict[str, Any]:
    """Write PEFT's adapter of a trained subnet into a folder; returns what the manifest has to say of it."""
    form = low_rank_form(adapted, lossy_rank)
    model = _adapt(adapted, form)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a base model without a name on a hub
        model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's own, a form to be filled in
    outputs = adapted.comparable(model(adapted.images.cpu()).detach())
    merged = model.merge_and_unload()
    _check_weights(merged, form)
    notes = []
    merged_outputs = merged(adapted.images.cpu()).detach()
    wanted = adapted.comparable(merged_outputs)
    if not torch.allclose(outputs, wanted, rtol=0, atol=adapted.tolerance * float(wanted.abs().max())):
        notes.append(MERGE_FIRST)
    facts = adapted.described()
    if form.lossy:
        facts["lossy"] = _loss(adapted, form, merged_outputs, int(lossy_rank or 0))
        notes.append(_said(facts["lossy"]))
    return facts | {"notes": notes}


def peft_outputs(folder: Path, adapted: AdaptedModel) -> nn.Module:
    """The model that PEFT makes of a folder and the backbone, merged.

    Raises:
        ExportError: if it cannot, or the merged weights are not those of the adapted model.
    """
    lossy = read_manifest(folder, "peft").get("lossy")
    form = low_rank_form(adapted, None if lossy is None else int(lossy.get("rank", 1)))
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = _peft().PeftModel.from_pretrained(_fresh(adapted), str(folder)).merge_and_unload().eval()
    except Exception as error:
        raise ExportError(f"PEFT cannot load {folder}: {reason(error)}; export it again") from error
    _check_weights(model, form)
    return _Moved(model)


class _Moved(nn.Module):
    """A model on the CPU for images of any device."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.model(images.cpu())
        return outputs


def _adapt(adapted: AdaptedModel, form: LowRankForm) -> Any:
    """PEFT's model with the factors, biases and modules of a form."""
    peft = _peft()
    shapes = [layer.name for layer in adaptable_layers(adapted.backbone)]
    ranks = {name: one.up.shape[0] for name, one in form.factors.items()}
    if not ranks:  # PEFT asks for a layer: factors that add nothing
        ranks = {next(name for name in shapes if takes_factors(adapted.backbone.get_submodule(name))): 1}
    patterns = {re.escape(name): ranks[name] for name in sorted(ranks, key=len, reverse=True)}
    common = max(set(ranks.values()), key=[*ranks.values()].count)
    others = {name: rank for name, rank in patterns.items() if rank != common}
    bias = "none" if not form.biases else "lora_only" if form.biases.keys() <= ranks.keys() else "all"
    config = peft.LoraConfig(
        r=common,
        lora_alpha=common,
        rank_pattern=others,
        alpha_pattern=others,
        target_modules="|".join(patterns),
        modules_to_save=sorted(form.modules),
        bias=bias,
        inference_mode=True,
        init_lora_weights=True,
    )
    with torch.random.fork_rng(devices=[]):
        model = peft.get_peft_model(_fresh(adapted), config).eval()
    with torch.no_grad():
        _fill(model.base_model.model, form)
    return model


def _fill(model: nn.Module, form: LowRankForm) -> None:
    for name, (down, up) in form.factors.items():
        layer: Any = model.get_submodule(name)
        first, second = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        first.copy_(up.view_as(first))
        second.copy_(down.view_as(second))
    for name, bias in form.biases.items():
        place: Any = model.get_submodule(name)
        getattr(place, "base_layer", place).bias.copy_(bias)
    for name, state in form.modules.items():
        wrapper: Any = model.get_submodule(name)
        own = {key.removeprefix(f"{name}."): value for key, value in state.items()}
        wrapper.modules_to_save["default"].load_state_dict(own)


def _fresh(adapted: AdaptedModel) -> nn.Module:
    """The backbone on the CPU, with another head than the one that was trained."""
    return copy.deepcopy(adapted.backbone).cpu().eval()


def _check_weights(model: nn.Module, form: LowRankForm) -> None:
    """Raise `ExportError` unless the merged weights are those of a form, but for what is approximated."""
    state, left = model.state_dict(), {f"{name}.weight" for name in form.lossy}
    if state.keys() != form.merged.keys():
        raise ExportError(f"PEFT's merged model has other tensors: {sorted(state.keys() ^ form.merged.keys())[:5]}")
    for name, wanted in form.merged.items():
        off = float((state[name].double() - wanted.double()).abs().max()) if wanted.numel() else 0.0
        if name not in left and not off <= EXACT * max(1.0, float(wanted.abs().max())):
            raise ExportError(f"PEFT merges {name} to other values: they differ by {off:.3g}, allowed is {EXACT:g}")


def _loss(adapted: AdaptedModel, form: LowRankForm, outputs: Tensor, rank: int) -> dict[str, Any]:
    """What the approximation costs."""
    with torch.no_grad():
        exact = adapted.active(adapted.images).cpu()
    of_exact = adapted.comparable(exact)
    found = {
        "rank": rank,
        "layers": form.lossy,
        "weight_error": form.weight_error,
        "output_error": float((adapted.comparable(outputs) - of_exact).abs().max() / of_exact.abs().max()),
        "images": len(outputs),
    }
    task = task_of(adapted.task)
    if task.right_or_wrong:
        same = task.matches(task.predicted(outputs), task.predicted(exact))
        found["same_answers"] = float(same.double().mean())
    return found


def _said(loss: dict[str, Any]) -> str:
    text = (
        f"rank {loss['rank']} approximates {len(loss['layers'])} layers: {100 * loss['weight_error']:.3g} % of the "
        f"norm of their shifts is lost; on {loss['images']} images of the search split outputs differ by up to "
        f"{100 * loss['output_error']:.3g} % of the largest"
    )
    if "same_answers" not in loss:
        return text
    return f"{text}, and {100 * loss['same_answers']:.3g} % of the answers are the same"


def _peft() -> ModuleType:
    try:
        import peft
    except ImportError as error:
        raise InputError("format peft needs PEFT: pip install 'glorasearch[peft]'") from error
    return peft
