"""A stack of M members ends with the weights that M separate trainings give, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.data import few_digits
from support.models import tiny_vit
from support.stacks import differences, double, moved, trained_alone
from torch import Tensor, nn

from glorasearch.data import TrainSplit
from glorasearch.space import BoundSpace, SearchSpace, sample
from glorasearch.stacked import Member, StackedTrainer
from glorasearch.supernet import Supernet
from glorasearch.training import TrainingConfig

CHOICES = {
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
STEPS = 8


def space_of(backbone: nn.Module, **content: Any) -> BoundSpace:
    """Every choice class for all layers of the blocks; warm-ups end during the training."""
    options = {"dash": {"warmup": 3}, "tsd_init": {"warmup": 2}, "tsd": {"warmup": 3}}
    given = {"name": "all", "layers": {"include": ["*blocks.*"]}, "choices": CHOICES, "options": options}
    return Supernet(backbone, SearchSpace.from_dict(given | content)).space


def recipe(**changes: Any) -> TrainingConfig:
    given = {"steps": STEPS, "batch_size": 6, "warmup_steps": 2, "checkpoint_every": 3, "record_every": 2}
    return TrainingConfig(**given | changes)


@torch.no_grad()
def inherited(backbone: nn.Module, space: BoundSpace, seed: int) -> dict[str, Tensor]:
    """A state with random values in all that is trained."""
    supernet = Supernet(backbone, space, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for value in (supernet.adapter_parameters() | supernet.head_parameters()).values():
        value.normal_(std=0.05, generator=generator)
    return {name: value.clone() for name, value in supernet.adapter_state().items()}


def members_of(backbone: nn.Module, space: BoundSpace, data: TrainSplit, count: int = 6) -> list[Member]:
    """Random subnets, each with its own recipe and images; every other one starts from other weights."""
    rng = np.random.default_rng(0)
    return [
        Member(
            space=space,
            subnet=sample(space, rng),
            config=recipe(
                lr=float(rng.uniform(1e-3, 1e-2)),
                vector_lr=float(rng.uniform(1e-3, 1e-2)),
                spectrum_lr=float(rng.uniform(0.01, 0.1)),
                head_lr=float(rng.uniform(1e-3, 1e-2)),
                weight_decay=float(rng.uniform(0, 0.1)),
                label_smoothing=float(rng.uniform(0, 0.2)),
                clip_norm=float(rng.uniform(0, 1)) if number else 0.0,
                warmup_steps=int(rng.integers(0, 3)),
                seed=number // 2,
            ),
            images=torch.from_numpy(rng.permutation(len(data))[: 20 + number]),
            start=inherited(backbone, space, number) if number % 2 else None,
        )
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def data() -> TrainSplit:
    return few_digits().train


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    return double(tiny_vit(), "patch_embed")


def test_members_end_as_they_do_alone(vit: nn.Module, data: TrainSplit) -> None:
    members = members_of(vit, space_of(vit), data)
    trainer = StackedTrainer(vit, members, data)
    assert trainer.kind == "side by side"
    starts = [trainer.state(number) for number in range(len(members))]
    result = trainer.run()
    assert result.steps == STEPS
    assert bool(result.finite.all())
    for number, member in enumerate(members):
        alone = trained_alone(vit, member, data).adapter_state()
        found = trainer.state(number)
        assert moved(starts[number], found) >= 10
        assert max(differences(alone, found).values()) < 1e-7  # Adam divides rounding in gradients near zero
