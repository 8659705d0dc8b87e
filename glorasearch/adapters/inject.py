"""Find the layers of a backbone that can be adapted, and replace them by adapted ones, by exact module name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import nn

from glorasearch.adapters.base import is_adaptable, kind_of, rows_of
from glorasearch.adapters.layer import AdaptedLayer
from glorasearch.adapters.norm import AdaptedNorm
from glorasearch.adapters.products import AdaptedConv2d, AdaptedLinear
from glorasearch.adapters.support import OfferedChoice, Storage, offered_choices
from glorasearch.choices import Kind, Part
from glorasearch.errors import BackboneError
from glorasearch.space import BoundSpace, LayerShape


def head_names(model: nn.Module) -> tuple[str, ...]:
    """Module names of a timm model's classifier head (two for a distilled DeiT).

    Raises:
        BackboneError: if the model has no `get_classifier`, or no head.
    """
    get_classifier = getattr(model, "get_classifier", None)
    if get_classifier is None:
        raise BackboneError(f"{type(model).__name__} has no get_classifier(): a timm model is needed")
    found = get_classifier()
    heads = found if isinstance(found, (tuple, list)) else (found,)
    names = tuple(
        name
        for name, module in model.named_modules()
        if any(module is head for head in heads) and next(module.parameters(), None) is not None
    )
    if not names:
        raise BackboneError(
            f"{type(model).__name__} has no classifier head; create it with num_classes, such as "
            "timm.create_model(name, num_classes=10)"
        )
    return names


def adaptable_layers(model: nn.Module) -> list[LayerShape]:
    """Every linear layer, convolution and norm of a backbone outside its head, in the order of `named_modules`.

    `base.kind_of` says which classes these are.
    """
    heads = head_names(model)
    found: list[LayerShape] = []
    for name, module in model.named_modules():
        kind = kind_of(module)
        if kind is None or any(name == head or name.startswith(f"{head}.") for head in heads):
            continue
        outs, ins = rows_of(module.weight).shape
        found.append(LayerShape(name, ins, outs, module.bias is not None, kind))
    return found


_CLASSES: Final[dict[Kind, type[AdaptedLayer]]] = {
    "linear": AdaptedLinear,
    "conv2d": AdaptedConv2d,
    "norm": AdaptedNorm,
}


def inject(
    model: nn.Module, space: BoundSpace, generator: torch.Generator
) -> tuple[dict[str, AdaptedLayer], dict[str, dict[str, Storage]]]:
    """Replace the layers of the space by adapted ones, in place.

    Returns:
        The adapted layers by name; and the storage that groups of layers share, by group and support tensor.

    Raises:
        BackboneError: if the space was bound to layers that the model does not have.
    """
    present = {layer.name: layer for layer in adaptable_layers(model)}
    offered: dict[str, dict[str, dict[str, OfferedChoice]]] = {}
    for gene in space.genes:
        offered.setdefault(gene.layer, {})[gene.tensor] = offered_choices(space, gene)
    groups = {(gene.layer, gene.tensor): gene.share for gene in space.genes if gene.share}
    shared = _shared(model, offered, groups, generator)
    adapted: dict[str, AdaptedLayer] = {}
    for layer in space.layers:
        if present.get(layer.name) != layer:
            raise BackboneError(
                f"the search space is bound to {layer}, the backbone has {present.get(layer.name)}: bind it again"
            )
        base = model.get_submodule(layer.name)
        own = {t: shared[groups[layer.name, t]][t] for t in offered.get(layer.name, {}) if (layer.name, t) in groups}
        assert is_adaptable(base)
        adapted[layer.name] = _CLASSES[layer.kind](
            base,
            offered.get(layer.name, {}),
            entangle=space.entangle,
            generator=generator,
            shared=own,
        )
        parent, _, child = layer.name.rpartition(".")
        setattr(model.get_submodule(parent), child, adapted[layer.name])
    return adapted, shared


def _shared(
    model: nn.Module,
    offered: Mapping[str, Mapping[str, Mapping[str, OfferedChoice]]],
    groups: Mapping[tuple[str, str], str],
    generator: torch.Generator,
) -> dict[str, dict[str, Storage]]:
    """For every group and support tensor the parts that its layers share, at the largest arguments of any layer."""
    parts: dict[tuple[str, str], dict[str, Part]] = {}
    likes: dict[str, torch.Tensor] = {}
    for (layer, tensor), group in groups.items():
        likes.setdefault(group, next(model.get_submodule(layer).parameters()))
        for choice in offered[layer][tensor].values():
            if choice.shared:
                known = parts.setdefault((group, tensor), {})
                for name, part in choice.parts.items():
                    known[name] = max(known.get(name, part), part, key=lambda one: one.shape)
    found: dict[str, dict[str, Storage]] = {}
    for (group, tensor), own in parts.items():
        found.setdefault(group, {})[tensor] = Storage(own, generator, likes[group])
    return found
