"""A stack of one by the supernet's step, compiled and captured on a real GPU, against the captured stack."""

from __future__ import annotations

import pytest
import torch
from support.data import few_digits
from support.models import tiny_vit
from support.stacks import STEPS, members_of, space_of
from torch import Tensor

from glorasearch.stacked import MixedImages, StackedTrainer
from glorasearch.stacked.alone import OneByOne
from glorasearch.training.fast_step import FastStep

pytestmark = pytest.mark.gpu
CHOICES = {
    "A": ["none", "constant", "lora:2"],
    "B": ["none", "vector", "lora:3"],
    "C": ["none", "vector", "lora:1"],
    "D": ["none", "constant", "vector"],
    "E": ["none", "constant", "vector"],
}
"""A few of each tensor: with all of them, which the CPU's tests have, one step compiles for more than 100 seconds."""


def row(trainer: StackedTrainer) -> Tensor:
    """The member's adapter state in one row."""
    return torch.cat([value.flatten().double() for value in trainer.state(0).values()])


@pytest.mark.parametrize(
    ("number", "precision", "close", "apart"), [(0, "float32", 1e-3, 0.05), (1, "auto", 5e-2, 0.5)]
)
def test_it_ends_as_the_stack_does(number: int, precision: str, close: float, apart: float) -> None:
    """Random subnets from either start, taught on mixed images."""
    data, vit = few_digits().train, tiny_vit(depth=2).cuda()
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randint(len(data), (2, 40), generator=generator)
    targets = torch.rand(40, data.classes, generator=generator).softmax(-1)
    mixed = MixedImages(first=first, second=second, share=torch.rand(40, generator=generator), targets=targets)
    member = members_of(vit, space_of(vit, CHOICES), len(mixed), 2, precision=precision)[number]
    losses, changes = [], []
    for fused in (False, True):
        trainer = StackedTrainer(vit, [member], data, device="cuda", targets=mixed, fused=fused)
        start = row(trainer)
        losses.append(trainer.run().loss)
        changes.append(row(trainer) - start)
        images = torch.arange(8)
        assert torch.isfinite(trainer.logits(data, images)).all()
    engine = trainer._engine
    assert isinstance(engine, OneByOne)
    step = engine._members[0].steps
    assert isinstance(step, FastStep)
    assert step._fused is not None
    assert step._fused.steps_done == STEPS, "captured"
    torch.testing.assert_close(losses[1], losses[0], rtol=close, atol=close)
    # A gradient that is all rounding takes Adam's full step to either side: no bound holds for every entry.
    assert (changes[1] - changes[0]).norm() < apart * changes[0].norm()
