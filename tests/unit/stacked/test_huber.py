"""Huber's loss of numbers is twice torch's in whatever trains, and the squared error below its threshold."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from support.stacks import differences, members_of, numbered, recipe, space_of
from torch import Tensor, nn

from glorasearch.data import SearchData
from glorasearch.errors import ConfigError
from glorasearch.space.early_stopping import UNIT
from glorasearch.stacked import StackedTrainer
from glorasearch.supernet import Supernet
from glorasearch.tasks import Regress
from glorasearch.training import Fixed, Sandwich, SupernetTrainer, TrainingRecord

OUTPUTS = 10
DELTA = 0.7


def test_it_is_twice_that_of_torch_in_float64() -> None:
    generator = torch.Generator().manual_seed(1)
    outputs, targets = (3 * torch.randn(4, 7, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    task = Regress().trained_by(DELTA)
    errors = (outputs - targets).abs()
    equation = torch.where(errors <= DELTA, errors**2, 2 * DELTA * errors - DELTA**2)
    assert 0.05 < float((errors <= DELTA).double().mean()) < 0.95
    found = task.member_losses(outputs, targets, torch.zeros(4))
    torch.testing.assert_close(found, equation.mean(dim=(-1, -2)), rtol=1e-14, atol=0)
    for member in range(4):
        wanted = 2 * F.huber_loss(outputs[member], targets[member], delta=DELTA)
        for loss in (task.label_loss(outputs[member], targets[member], 0.0),
                     task.distillation_loss(outputs[member], targets[member])):  # fmt: skip
            torch.testing.assert_close(loss, wanted, rtol=1e-14, atol=0)
        units = task.losses(outputs[member], targets[member])
        torch.testing.assert_close(units * UNIT, equation[member].mean(-1), rtol=0, atol=UNIT)
    far = Regress().trained_by(1e6)
    torch.testing.assert_close(far.label_loss(outputs, targets, 0.0), F.mse_loss(outputs, targets), rtol=1e-14, atol=0)
    assert Regress().trained_by(0.0) == Regress(), "which is what there is without it"


@pytest.mark.parametrize("strategy", ["one", "sandwich"])
def test_a_training_has_its_loss_and_gradient(vit: nn.Module, data: SearchData, strategy: str) -> None:
    split, space = numbered(data.train, 24), space_of(vit)
    config = recipe(batch_size=24, steps=1, record_every=1, warmup_steps=0, clip_norm=0.0, huber_delta=DELTA)
    records: list[TrainingRecord] = []

    def made() -> Supernet:
        return Supernet(vit, space, seed=3)

    images, targets = split.batch(torch.arange(24))
    sampler = Fixed(space.largest()) if strategy == "one" else Sandwich(space, seed=0)
    mine, losses = made(), []
    teacher: Tensor | None = None
    for each in sampler.sample(0):
        with mine.activate(each.subnet):
            outputs = mine(images)
        wanted = teacher if each.distilled and teacher is not None else targets.double()
        teacher = outputs.detach() if teacher is None else teacher
        losses.append(2 * F.huber_loss(outputs, wanted, delta=DELTA))
    loss = torch.stack(losses).mean()
    trained = [*mine.adapter_parameters().values(), *mine.head_parameters().values()]
    found = torch.autograd.grad(loss, trained, allow_unused=True)
    norm = torch.cat([one.flatten() for one in found if one is not None]).norm()

    SupernetTrainer(made(), split, sampler, config, on_record=records.append).run()
    values = records[0].values
    assert values["loss"] == pytest.approx(float(loss.detach()), rel=1e-6), "which is recorded in float32"
    assert values["gradient_norm"] == pytest.approx(float(norm), rel=1e-6)
    assert float(loss.detach()) < 0.8 * float(F.mse_loss(outputs.detach(), targets.double())), "outliers pull less"


@pytest.mark.parametrize("side_by_side", [True, False])
def test_members_of_a_stack_learn_by_it(vit: nn.Module, data: SearchData, side_by_side: bool) -> None:
    split = numbered(data.train, 40)
    members = members_of(vit, space_of(vit), 40, 2, label_smoothing=0.0, huber_delta=DELTA)
    smoothed = [replace(member, config=member.config.replace(label_smoothing=0.1)) for member in members]
    other = StackedTrainer(vit, smoothed, split, side_by_side=side_by_side)
    trainer = StackedTrainer(vit, members, split, side_by_side=side_by_side)
    assert torch.equal(trainer.run().loss, other.run().loss), "numbers are not smoothed"
    for number, member in enumerate(members):
        states = []
        for config in (member.config, member.config.replace(huber_delta=0.0)):
            supernet = Supernet(vit, member.space, seed=member.config.seed)
            if member.start is not None:
                supernet.load_adapter_state(member.start)
            SupernetTrainer(supernet, numbered(data.train, 40, member.images), Fixed(member.subnet), config).run()
            states.append(supernet.adapter_state())
        assert max(differences(states[0], trainer.state(number)).values()) < 1e-6
        assert max(differences(states[1], trainer.state(number)).values()) > 1e-4, "not the squared error"


def test_classes_have_none(vit: nn.Module, data: SearchData) -> None:
    (member,) = members_of(vit, space_of(vit), 40, 1)
    with pytest.raises(ConfigError, match="Huber's loss is of numbers"):
        StackedTrainer(vit, [replace(member, config=recipe(huber_delta=1.0))], data.train)
    supernet = Supernet(vit, space_of(vit))
    with pytest.raises(ConfigError, match="Huber's loss is of numbers"):
        SupernetTrainer(supernet, data.train, Fixed(member.subnet), recipe(huber_delta=1.0))
