"""A backbone whose adapted layers and head compute for M members at once."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor, nn

from glorasearch.adapters import head_names, replace_modules
from glorasearch.stacked.layers import StackedLayer, head_parts, stacked_layer
from glorasearch.stacked.merge import Merger, groups_of
from glorasearch.stacked.plan import Plan
from glorasearch.stacked.store import Key, Store
from glorasearch.supernet import freeze_statistics

SMALL: Final = 2**18
"""Entries of a weight up to which layers of one shape are merged at once; in larger ones copies of W0 cost more."""


def tree_of(backbone: nn.Module) -> nn.Module:
    """A copy of the module tree in evaluation mode that shares the memory of the parameters, all frozen."""
    memo: dict[int, object] = {
        id(value): nn.Parameter(value.detach(), requires_grad=False) for value in backbone.parameters()
    }
    return copy.deepcopy(backbone, memo).eval()


def _alike(model: nn.Module, plans: Sequence[Plan]) -> list[list[str]]:
    """The adapted layers, those together that are computed at once: small ones of one shape."""
    found: dict[Hashable, list[str]] = {}
    for name, one in sorted({one.layer: one for plan in plans for one in plan.placed}.items()):
        shape, bias = one.site.layer, model.get_submodule(name).bias is not None
        large = shape.out_features * shape.in_features > SMALL
        found.setdefault((replace(shape, name=""), shape.stacked, bias, name if large else ""), []).append(name)
    return list(found.values())


class StackedModel(nn.Module):
    """Images `(M · N, C, H, W)`, member by member, to logits `(M, N, classes)`.

    Layers that no member adapts see a larger batch.
    """

    def __init__(self, model: nn.Module, plans: Sequence[Plan], store: Store) -> None:
        """`model` is the backbone in a module tree of its own (`tree_of`), which is changed.

        Raises:
            BackboneError: if a layer has no stacked form.
        """
        super().__init__()
        heads = head_names(model)
        self.model = model.to(store.theta.device)
        self.members = len(plans)
        self._layers: list[tuple[list[StackedLayer], Merger]] = []
        self.bases: dict[str, Tensor] = {}
        """Adapted layer → W0 `(out, in)`, on the device."""
        for names in _alike(self.model, plans):
            layers: list[StackedLayer] = [stacked_layer(self.model.get_submodule(name), self.members) for name in names]
            biases: list[Tensor] = [layer.base.bias for layer in layers if layer.base.bias is not None]  # type: ignore[misc]
            for name in names:
                weight = next(plan.bases[name] for plan in plans if name in plan.bases)
                self.bases[name] = weight.to(store.theta.device)
            bases = torch.stack([self.bases[name] for name in names]) if len(names) > 1 else self.bases[names[0]][None]
            merger = Merger(
                groups_of(names, plans, store), self.members, bases, torch.stack(biases) if biases else None
            )
            self._layers.append((layers, merger))
            for layer in layers:
                self._replace(layer.base, layer)
        self._heads: list[tuple[StackedLayer, Key, Key | None]] = []
        for head in heads:
            for part in head_parts(model.get_submodule(head)):
                name = f"{head}.{part}" if part else head
                base = self.model.get_submodule(name)
                own = stacked_layer(base, self.members)
                bias_key = None if base.bias is None else store.key(0, f"{name}.bias")[0]
                self._heads.append((own, store.key(0, f"{name}.weight")[0], bias_key))
                self._replace(base, own)
        self.eval()

    def _replace(self, base: nn.Module, layer: nn.Module) -> None:
        replace_modules(self.model, {id(base): layer})

    def train(self, mode: bool = True) -> StackedModel:
        """Training mode (drop path, dropout); batch norm stays in evaluation mode, since the backbone is frozen."""
        super().train(mode)
        freeze_statistics(self.model)
        return self

    def install(self, pieces: Mapping[Key, Tensor]) -> None:
        """Merge the members' parameters; differentiable."""
        for layers, merger in self._layers:
            for layer, terms, base in zip(layers, merger.terms(pieces), merger.bases, strict=True):
                layer.install_terms(terms, base)
        for head, weight, bias in self._heads:
            head.install(pieces[weight].flatten(2), None if bias is None else pieces[bias])

    def clear(self) -> None:
        """Let go of what `install` computed."""
        for layers, _ in self._layers:
            for layer in layers:
                layer.clear()
        for head, _, _ in self._heads:
            head.clear()

    def forward(self, images: Tensor) -> Tensor:
        """With the installed parameters."""
        logits: Tensor = self.model(images)
        return logits.view(self.members, -1, *logits.shape[1:])
