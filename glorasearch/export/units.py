"""Targets are learnt standardised; the exported head answers in their own units, so that no one else need know."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from glorasearch.backbone.new_head import classifier_layers
from glorasearch.errors import BackboneError
from glorasearch.tasks import Standard, Task

TOLERANCE = 1e-3
"""Of what the head makes of images, relative to the largest."""


def to_units(model: nn.Module, task: Task) -> None:
    """Give a model with a trained head, in place, answers in the units of a task's targets; nothing of other tasks."""
    if task.standard is not None:
        scale_head(model, task.standard)


@torch.no_grad()
def scale_head(model: nn.Module, standard: Standard) -> None:
    """Multiply the outputs of a model by the deviations, and add the means, in its last layer.

    Raises:
        BackboneError: if the head has no such layer with a bias.
    """
    for layer in last_layers(model, len(standard.mean)).values():
        assert isinstance(layer.weight, Tensor)
        assert isinstance(layer.bias, Tensor)
        weight, bias = scaled(layer.weight, layer.bias, standard)
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)


def scaled(weight: Tensor, bias: Tensor, standard: Standard) -> tuple[Tensor, Tensor]:
    """Weight `(targets, ...)` and bias `(targets,)` of a last layer that answers in the targets' own units, float64."""
    numbers = (torch.tensor(each, dtype=torch.float64) for each in (standard.std, standard.mean))
    std, mean = (each.to(weight.device) for each in numbers)
    return weight.double() * std.view(-1, *[1] * (weight.ndim - 1)), bias.double() * std + mean


def last_layers(model: nn.Module, outputs: int) -> dict[str, nn.Module]:
    """Name → layer of those of the head that make its outputs.

    Raises:
        BackboneError: if there is none with a bias.
    """
    layers = classifier_layers(model).items()
    last = {name: one for name, one in layers if isinstance(one.weight, Tensor) and len(one.weight) == outputs}
    if not last or not all(isinstance(one.bias, Tensor) for one in last.values()):
        raise BackboneError(
            "the head has no last layer with a bias, in which the scale of targets could be exported; take a backbone "
            'whose classifier is a linear layer with a bias for data.task = "regress"'
        )
    return last


@torch.no_grad()
def check_units(model: nn.Module, images: Tensor) -> None:
    """Refuse a model whose outputs are not those of its last layer; it is left as it was.

    Args:
        model: with a head of some outputs.
        images: `(N, C, H, W)`, any, on its device.

    Raises:
        BackboneError: saying why.
    """
    state = {name: value.clone() for name, value in model.state_dict().items()}
    training = model.training
    model.eval()
    before: Tensor = model(images)
    outputs = before.shape[1]
    standard = Standard(tuple(float(place + 1) for place in range(outputs)), (3.0,) * outputs)
    try:
        scale_head(model, standard)
        after: Tensor = model(images)
    finally:
        model.load_state_dict(state)
        model.train(training)
    wanted = before * 3 + torch.arange(1, outputs + 1, device=before.device)
    if float((after - wanted).abs().max()) > TOLERANCE * float(wanted.abs().max()):
        raise BackboneError(
            "its outputs are not those of its last layer, so that the scale of targets could not be exported; take a "
            'backbone whose classifier is its last step for data.task = "regress"'
        )
