"""Members that take turns in a compiled and captured step on a real GPU, against each alone in the plain step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.data import few_digits
from support.models import tiny_vit
from support.stacks import STEPS, members_of, space_of
from torch import Tensor

from glorasearch.stacked import StackedTrainer
from glorasearch.stacked.in_turns import InTurns

pytestmark = pytest.mark.gpu
CHOICES = {"A": ["none", "vector", "lora:2"], "B": ["none", "lora:2", "dash:1:2"], "E": ["none", "vector"]}
SHARED = {
    "clip_norm": 0.5,
    "weight_decay": 0.05,
    "label_smoothing": 0.1,
    "balance": "loss",
    "ema_decay": 0.8,
    "precision": "float32",
}


def row(trainer: StackedTrainer, member: int) -> Tensor:
    """A member's adapter state in one row."""
    return torch.cat([value.flatten().double() for value in trainer.state(member).values()])


def captured(trainer: StackedTrainer) -> int:
    """Steps of all members by the captured step."""
    assert isinstance(trainer._engine, InTurns)
    assert not trainer._engine._fused._eager
    return trainer._engine._fused.steps_done


def test_each_ends_as_it_does_alone() -> None:
    """Two rates, subnets, seeds and starts; then with a neighbour that diverges, which leaves nothing behind."""
    data, vit = few_digits().train, tiny_vit(depth=2).cuda()
    members = members_of(vit, space_of(vit, CHOICES), len(data), 2, **SHARED)
    turns = StackedTrainer(vit, members, data, device="cuda", in_turns=True)
    alone = StackedTrainer(vit, members, data, device="cuda", side_by_side=False)
    assert alone.kind == "one by one"
    starts = [row(turns, number) for number in range(2)]
    found, expected = turns.run(), alone.run()
    assert captured(turns) == 2 * STEPS
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-3, atol=1e-3)
    for number, start in enumerate(starts):
        one, other = row(turns, number) - start, row(alone, number) - start
        # A gradient that is all rounding takes Adam's full step to either side: no bound holds for every entry.
        assert (one - other).norm() < 0.05 * other.norm()
    images = torch.arange(8)
    torch.testing.assert_close(turns.logits(data, images), alone.logits(data, images), rtol=0.05, atol=0.05)

    bad = replace(members[0], config=members[0].config.replace(lr=1e30, vector_lr=1e30, head_lr=1e30))
    beside = StackedTrainer(vit, [bad, members[1]], data, device="cuda", in_turns=True)
    result = beside.run()
    assert result.finite.tolist() == [False, True]
    torch.testing.assert_close(result.loss[1], found.loss[1], rtol=1e-4, atol=1e-4)
    assert (row(beside, 1) - row(turns, 1)).norm() < 0.05 * (row(turns, 1) - starts[1]).norm()
    assert captured(beside) == 2 * STEPS


def test_each_drops_what_it_drops_in_a_stack_of_its_own() -> None:
    """A captured step draws by the seed of the member whose turn it is."""
    data, vit = few_digits().train, tiny_vit(depth=2, drop_path_rate=0.3).cuda()
    members = members_of(vit, space_of(vit, CHOICES), len(data), 2, **SHARED, drop_path=0.3)
    together = StackedTrainer(vit, members, data, device="cuda", in_turns=True)
    starts = [row(together, number) for number in range(2)]
    found = together.run()
    assert captured(together) == 2 * STEPS
    for number, member in enumerate(members):
        alone = StackedTrainer(vit, [member], data, device="cuda", in_turns=True)
        expected = alone.run()
        assert captured(alone) == STEPS
        torch.testing.assert_close(found.loss[number], expected.loss[0], rtol=1e-4, atol=1e-4)
        change = row(alone, 0) - starts[number]
        assert (row(together, number) - row(alone, 0)).norm() < 0.05 * change.norm()
