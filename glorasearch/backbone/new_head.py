"""A new classifier for a backbone; what else its head consists of is kept."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from glorasearch.adapters import head_names


@torch.no_grad()
def draw_classifier(model: nn.Module, seed: int) -> None:
    """Draw the classifier from the seed alone, independent of the pretrained file and of what timm draws.

    Weights are normal with a standard deviation of 0.02, biases are 0. The classifier is what `pretrained_cfg` names as
    such, often only the last layer of the head: the norms and layers before it keep their pretrained values, or start
    as timm has them.

    Raises:
        BackboneError: if the model has no head.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in classifier_layers(model).values():
        for parameter in layer.parameters(recurse=False):
            if parameter.ndim > 1:
                parameter.copy_(torch.empty(parameter.shape).normal_(std=0.02, generator=generator))
            else:
                parameter.zero_()


def classifier_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that compute the logits, by name: those of the head that `pretrained_cfg` names, else all of it.

    Norms are never among them.

    Raises:
        BackboneError: if the model has no head.
    """
    layers = {name: layer for head in head_names(model) for name, layer in _products(model, head)}
    given = (getattr(model, "pretrained_cfg", None) or {}).get("classifier") or ()
    named = (given,) if isinstance(given, str) else tuple(given)
    own = {name: layer for name, layer in layers.items() if any(f"{name}.".startswith(f"{one}.") for one in named)}
    return own or layers


def _products(model: nn.Module, head: str) -> Iterator[tuple[str, nn.Module]]:
    """Layers of a head with a matrix for a weight."""
    for own, layer in model.get_submodule(head).named_modules():
        weight = getattr(layer, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.ndim > 1:
            yield (f"{head}.{own}" if own else head), layer
