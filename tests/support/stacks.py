"""Stacks of toy members, and each of them trained alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glorasearch.data import TrainSplit
from glorasearch.data.pixels import ResidentPixels
from glorasearch.space import BoundSpace, SearchSpace, sample
from glorasearch.stacked import Member, StackedTrainer
from glorasearch.stacked.layers import StackedLinear
from glorasearch.stacked.side_by_side import SideBySide
from glorasearch.supernet import Supernet
from glorasearch.tasks import Regress
from glorasearch.training import Fixed, SupernetTrainer, TrainingConfig

CHOICES: dict[str, list[str]] = {
    "A": ["none", "constant", "vector", "lora:2", "lora:3", "wegeft:2", "wegeft:4"],
    "B": [
        *("none", "constant", "vector", "lora:1", "lora:3", "fourier:30", "fourier:50"),
        *("dash:2:4", "dash:3:5", "tsd_init:2", "tsd_init:3", "tsd:2:4", "tsd:3:5"),
    ],
    "C": ["none", "vector", "lora:1", "lora:2"],
    "D": ["none", "constant", "vector"],
    "E": ["none", "constant", "vector"],
}
"""Every choice class."""
OPTIONS = {"dash": {"warmup": 3}, "tsd_init": {"warmup": 2}, "tsd": {"warmup": 3}}
"""All warm-ups end during the training."""
STEPS = 8
SHARED: Mapping[str, Any] = {"clip_norm": 0.5, "weight_decay": 0.05, "label_smoothing": 0.1}
"""What members that take turns have in common; rates, seeds, warm-ups, subnets, images and starts are their own."""


def double(model: nn.Module) -> nn.Module:
    """The model in float64, which takes float32 images."""
    model.register_forward_pre_hook(_as_double)
    return model.double()


def _as_double(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return (given[0].double(), *given[1:])


def space_of(backbone: nn.Module, choices: Mapping[str, list[str]] = CHOICES, **content: Any) -> BoundSpace:
    """Every choice class for all linear layers of the blocks, unless something else is given."""
    given = {"name": "all", "layers": {"include": ["*blocks.*"]}, "choices": dict(choices), "options": OPTIONS}
    return Supernet(backbone, SearchSpace.from_dict(given | content)).space


def recipe(**changes: Any) -> TrainingConfig:
    """A short training."""
    given = {"steps": STEPS, "batch_size": 6, "warmup_steps": 2, "checkpoint_every": 3, "record_every": 2}
    return TrainingConfig(**given | changes)


@torch.no_grad()
def inherited(backbone: nn.Module, space: BoundSpace, seed: int) -> dict[str, Tensor]:
    """An adapter state with random values in all that is trained."""
    supernet = Supernet(backbone, space, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for value in (supernet.adapter_parameters() | supernet.head_parameters()).values():
        value.copy_(torch.empty(value.shape, dtype=value.dtype).normal_(std=0.05, generator=generator))
    return {name: value.clone() for name, value in supernet.adapter_state().items()}


def members_of(
    backbone: nn.Module, spaces: BoundSpace | Sequence[BoundSpace], images: int, count: int = 6, **changes: Any
) -> list[Member]:
    """Random subnets, each with its own recipe and images; every other one starts from other weights.

    What is given is the same in all recipes.
    """
    rng = np.random.default_rng(0)
    several = [spaces] if isinstance(spaces, BoundSpace) else list(spaces)
    members: list[Member] = []
    for number in range(count):
        space = several[number % len(several)]
        own = {
            "lr": float(rng.uniform(1e-3, 1e-2)),
            "vector_lr": float(rng.uniform(1e-3, 1e-2)),
            "spectrum_lr": float(rng.uniform(0.01, 0.1)),
            "head_lr": float(rng.uniform(1e-3, 1e-2)),
            "weight_decay": float(rng.uniform(0, 0.1)),
            "label_smoothing": float(rng.uniform(0, 0.2)),
            "clip_norm": float(rng.uniform(0.1, 1)) if number else 0.0,
            "warmup_steps": int(rng.integers(0, 3)),
            "seed": number // 2,
        }
        subnet, seen = sample(space, rng), torch.from_numpy(rng.permutation(images)[: 20 + number])
        start = inherited(backbone, space, number) if number % 2 else None
        members.append(Member(space=space, subnet=subnet, config=recipe(**own | changes), images=seen, start=start))
    return members


def part_of(data: TrainSplit, positions: Tensor) -> TrainSplit:
    """Some images of a split, as a split."""
    pixels = ResidentPixels(data._pixels.gather(positions))
    fingerprints = [data._fingerprints[position] for position in positions.tolist()]
    return TrainSplit(pixels, data.labels[positions], data.spec, fingerprints, data.classes)


def numbered(data: TrainSplit, images: int, chosen: Tensor | None = None) -> TrainSplit:
    """Images with ten numbers each, of which some are far out."""
    targets = torch.randn(images, 10, generator=torch.Generator().manual_seed(0))
    targets[::5] *= 20
    positions = torch.arange(images) if chosen is None else chosen
    prints = [data._fingerprints[place] for place in positions.tolist()]
    pixels = ResidentPixels(data._pixels.gather(positions))
    return TrainSplit(pixels, targets[positions], data.spec, prints, 10, task=Regress())


def norms_of(model: nn.Module) -> BoundSpace:
    """Scales and shifts of norms, which no fused step covers."""
    return space_of(model, {"D": ["vector"], "E": ["vector"]}, layers={"include": ["*norm*"], "types": ["norm"]})


class KilledError(Exception):
    """Ends a training in the middle of it."""


def killed_and_resumed(trainer: Callable[..., StackedTrainer], folder: Path) -> tuple[StackedTrainer, StackedTrainer]:
    """One that trained without an interruption, and one that goes on with what another left when it was killed after
    step 7; it begins again after step 6. Both have the same losses.

    Args:
        trainer: makes one, with these arguments besides its own.
        folder: for the checkpoint.
    """

    def kill(step: int) -> None:
        if step == 7:
            raise KilledError

    whole = trainer()
    expected = whole.run()
    with pytest.raises(KilledError):
        trainer(checkpoint=folder / "stack", on_step=kill).run()
    steps: list[int] = []
    resumed = trainer(checkpoint=folder / "stack", on_step=steps.append)
    result = resumed.run()
    assert steps == [6, 7, 8]
    assert torch.equal(result.loss, expected.loss)
    return whole, resumed


def trained_alone(backbone: nn.Module, member: Member, data: TrainSplit) -> Supernet:
    """The member's supernet after `SupernetTrainer` has trained it."""
    supernet = Supernet(backbone, member.space, seed=member.config.seed)
    if member.start is not None:
        supernet.load_adapter_state(member.start)
    images = part_of(data, member.images)
    SupernetTrainer(supernet, images, Fixed(member.subnet), member.config).run()
    return supernet


def differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, float]:
    """Name → largest difference, relative to the largest value of that tensor (at least 0.01)."""
    assert expected.keys() == found.keys()
    return {
        name: float((found[name] - value).abs().max() / value.abs().max().clamp(min=1e-2))
        if value.is_floating_point()
        else float((found[name] != value).any())
        for name, value in expected.items()
    }


def moved(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> int:
    """How many tensors a training has changed."""
    return sum(not torch.equal(before[name], value) for name, value in after.items())


def largest_difference(
    backbone: nn.Module,
    members: Sequence[Member],
    data: TrainSplit,
    backbones: Sequence[nn.Module] = (),
    *,
    factored: bool = True,
) -> float:
    """Between members side by side and each alone, in `backbones` if they differ; every one leaves its start.

    `factored` is how linear layers compute on a CPU; on a GPU they do not.
    """
    trainer = StackedTrainer(backbone, members, data, side_by_side=True)
    assert isinstance(trainer._engine, SideBySide)
    linear = [module for module in trainer._engine._model.modules() if isinstance(module, StackedLinear)]
    for module in linear:
        module.factored = factored
    return largest_of(trainer, backbones or [backbone] * len(members), members, data)


def largest_of(
    trainer: StackedTrainer, backbones: Sequence[nn.Module], members: Sequence[Member], data: TrainSplit
) -> float:
    """The largest difference between the members of a stack, which is trained, and each alone in its backbone."""
    starts = [trainer.state(number) for number in range(len(members))]
    assert bool(trainer.run().finite.all())
    found = 0.0
    for number, (own, member) in enumerate(zip(backbones, members, strict=True)):
        state = trainer.state(number)
        assert moved(starts[number], state) >= 2  # the head, at least
        found = max(found, *differences(trained_alone(own, member, data).adapter_state(), state).values())
    return found
