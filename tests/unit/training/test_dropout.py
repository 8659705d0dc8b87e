"""Dropout of hidden units: part of a training, repeatable, and the same in a stack, whose members then take turns."""

from __future__ import annotations

import logging

import pytest
import torch
from support.data import few_digits
from support.models import tiny_vit

from glorasearch.space import SearchSpace
from glorasearch.stacked import Member, StackedTrainer
from glorasearch.supernet import Supernet
from glorasearch.training import Fixed, SupernetTrainer, TrainingConfig

SPACE = SearchSpace.from_dict({"name": "repadapter", "choices": {"A": ["repadapter:4"]}})


def trained(dropout: float) -> tuple[float, dict[str, torch.Tensor]]:
    supernet = Supernet(tiny_vit(), SPACE)
    config = TrainingConfig(steps=4, batch_size=8, warmup_steps=0, lr=1e-2, dropout=dropout)
    result = SupernetTrainer(supernet, few_digits().train, Fixed(supernet.space.largest()), config).run()
    return result.loss, supernet.adapter_state()


def test_a_training_with_dropout_repeats_itself() -> None:
    (_, first), (_, again), (_, without) = trained(0.5), trained(0.5), trained(0.0)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert any(not torch.equal(value, without[name]) for name, value in first.items())


def test_a_stack_gives_the_same_one_after_the_other(caplog: pytest.LogCaptureFixture) -> None:
    vit, data = tiny_vit(), few_digits().train
    space = Supernet(vit, SPACE).space
    config = TrainingConfig(steps=4, batch_size=8, warmup_steps=0, lr=1e-2, dropout=0.5)
    member = Member(space=space, subnet=space.largest(), config=config, images=torch.arange(len(data)))
    with caplog.at_level(logging.WARNING):
        trainer = StackedTrainer(vit, [member, member], data, side_by_side=True)
    assert "a member has dropout of hidden units" in caplog.text
    trainer.run()
    _, alone = trained(0.5)
    for name, value in trainer.state(1).items():
        torch.testing.assert_close(value, alone[name], atol=1e-5, rtol=1e-4)
