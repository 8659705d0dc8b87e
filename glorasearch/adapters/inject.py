"""Finding the linear layers of a backbone and putting adapters in their places, by exact module name."""

from __future__ import annotations

import torch
from torch import nn

from glorasearch.adapters.linear import AdaptedLinear
from glorasearch.errors import BackboneError
from glorasearch.space import BoundSpace, LayerShape


def head_names(model: nn.Module) -> tuple[str, ...]:
    """Module names of a timm model's classifier head (two for a distilled DeiT).

    Raises:
        BackboneError: if the model does not say which modules are its head, or has none.
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


def linear_layers(model: nn.Module) -> list[LayerShape]:
    """Every `nn.Linear` of a backbone outside its head, in the order of `named_modules`."""
    heads = head_names(model)
    return [
        LayerShape(name, module.in_features, module.out_features, module.bias is not None)
        for name, module in model.named_modules()
        if type(module) is nn.Linear and not any(name == head or name.startswith(f"{head}.") for head in heads)
    ]


def inject(model: nn.Module, space: BoundSpace, generator: torch.Generator) -> dict[str, AdaptedLinear]:
    """Replace the layers that the space names by `AdaptedLinear`, in place; returns them by name.

    Raises:
        BackboneError: if the space was bound to other layers than the model has.
    """
    present = {layer.name: layer for layer in linear_layers(model)}
    adapted: dict[str, AdaptedLinear] = {}
    for layer in space.layers:
        if present.get(layer.name) != layer:
            raise BackboneError(
                f"the search space is bound to {layer}, the backbone has {present.get(layer.name)}: bind it again"
            )
        genes = [gene for gene in space.genes if gene.layer == layer.name]
        base = model.get_submodule(layer.name)
        assert isinstance(base, nn.Linear)
        adapted[layer.name] = AdaptedLinear(base, layer, genes, entangle=space.entangle, generator=generator)
        parent, _, child = layer.name.rpartition(".")
        setattr(model.get_submodule(parent), child, adapted[layer.name])
    return adapted
