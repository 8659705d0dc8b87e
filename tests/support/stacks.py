"""Stacks of toy members, and each of them trained alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from glorasearch.data import TrainSplit
from glorasearch.data.pixels import ResidentPixels
from glorasearch.stacked import Member
from glorasearch.supernet import Supernet
from glorasearch.training import Fixed, SupernetTrainer


def double(model: nn.Module, first: str) -> nn.Module:
    """The model in float64, which takes float32 images; `first` is the module that sees them."""
    model.get_submodule(first).register_forward_pre_hook(_as_double)
    return model.double()


def _as_double(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return (given[0].double(), *given[1:])


def part_of(data: TrainSplit, positions: Tensor) -> TrainSplit:
    """Some images of a split, as a split."""
    pixels = ResidentPixels(data._pixels.gather(positions))
    fingerprints = [data._fingerprints[position] for position in positions.tolist()]
    return TrainSplit(pixels, data.labels[positions], data.spec, fingerprints, data.classes)


def trained_alone(backbone: nn.Module, member: Member, data: TrainSplit) -> Supernet:
    """The member's supernet after `SupernetTrainer` has trained it."""
    supernet = Supernet(backbone, member.space, seed=member.config.seed)
    if member.start is not None:
        supernet.load_adapter_state(member.start)
    images = part_of(data, member.images)
    SupernetTrainer(supernet, images, Fixed(member.subnet), member.config).run()
    return supernet


def differences(expected: dict[str, Tensor], found: dict[str, Tensor]) -> dict[str, float]:
    """Name → largest difference, relative to the largest value of that tensor."""
    assert expected.keys() == found.keys()
    return {
        name: float((found[name] - value).abs().max() / value.abs().max().clamp(min=1e-3))
        for name, value in expected.items()
        if value.is_floating_point()
    } | {name: float((found[name] != value).any()) for name, value in expected.items() if not value.is_floating_point()}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> int:
    """How many tensors a training has changed."""
    return sum(not torch.equal(before[name], value) for name, value in after.items())
