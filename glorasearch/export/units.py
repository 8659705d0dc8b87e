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
    outputs = len(standard.mean)
    layers = [(layer.weight, layer.bias) for layer in classifier_layers(model).values()]
    last = [(weight, bias) for weight, bias in layers if isinstance(weight, Tensor) and len(weight) == outputs]
    if not last or not all(isinstance(bias, Tensor) for _, bias in last):
        raise BackboneError(
            "the head has no last layer with a bias, in which the scale of targets could be exported; take a backbone "
            'whose classifier is a linear layer with a bias for data.task = "regress"'
        )
    for weight, bias in last:
        assert isinstance(bias, Tensor)
        numbers = (torch.tensor(each, dtype=torch.float64) for each in (standard.std, standard.mean))
        std, mean = (each.to(weight.device) for each in numbers)
        weight.copy_(weight.double() * std.view(-1, *[1] * (weight.ndim - 1)))
        bias.copy_(bias.double() * std + mean)


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
