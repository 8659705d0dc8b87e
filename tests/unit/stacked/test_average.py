"""The moving averages of a stack's members are those of each member alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.models import tiny_vit
from support.stacks import CHOICES, differences, members_of, space_of, trained_alone
from torch import nn

from glorasearch.data import SearchData
from glorasearch.errors import ConfigError
from glorasearch.stacked import StackedTrainer
from glorasearch.stacked.side_by_side import SideBySide

SIDES = pytest.mark.parametrize("side_by_side", [True, False])


@SIDES
def test_members_end_with_the_average_that_each_has_alone(vit: nn.Module, data: SearchData, side_by_side: bool) -> None:
    """Warm-ups end on the way."""
    members = members_of(vit, space_of(vit), len(data.train), 4, ema_decay=0.8)
    plain = members_of(vit, space_of(vit), len(data.train), 4)
    trainer = StackedTrainer(vit, members, data.train, side_by_side=side_by_side)
    without = StackedTrainer(vit, plain, data.train, side_by_side=side_by_side)
    trainer.run()
    without.run()
    for number, member in enumerate(members):
        alone = trained_alone(vit, member, data.train).adapter_state()
        assert max(differences(alone, trainer.state(number)).values()) < 1e-7
        assert max(differences(without.state(number), trainer.state(number)).values()) > 1e-3
        supernet = trained_alone(vit, member, data.train)
        with torch.no_grad():
            images, _ = data.search.batch(torch.arange(9))
            expected = supernet.merged(member.subnet)(images)
        found = trainer.logits(data.search, torch.arange(9))[number]
        torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-6)


@SIDES
def test_killed_and_resumed_ends_with_the_same_bits(data: SearchData, tmp_path: Path, side_by_side: bool) -> None:
    backbone = tiny_vit()
    members = members_of(backbone, space_of(backbone, CHOICES), len(data.train), 3, ema_decay=0.8)

    class KilledError(Exception):
        pass

    def kill(step: int) -> None:
        if step == 7:
            raise KilledError

    undisturbed = StackedTrainer(backbone, members, data.train, side_by_side=side_by_side)
    undisturbed.run()
    given = {"side_by_side": side_by_side, "checkpoint": tmp_path / "stack"}
    with pytest.raises(KilledError):
        StackedTrainer(backbone, members, data.train, on_step=kill, **given).run()
    resumed = StackedTrainer(backbone, members, data.train, **given)
    resumed.run()
    for number in range(len(members)):
        expected, found = undisturbed.state(number), resumed.state(number)
        assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_it_is_what_the_equation_says(data: SearchData, device: str) -> None:
    """On a GPU the step is captured, and the average taken beside it."""
    backbone = tiny_vit()
    members = members_of(backbone, space_of(backbone, {"B": ["lora:2"]}), len(data.train), 3, ema_decay=0.3)
    thetas: list[torch.Tensor] = []

    def theta() -> torch.Tensor:
        assert isinstance(trainer._engine, SideBySide)
        return trainer._engine._store.theta.detach().double().cpu().clone()

    trainer = StackedTrainer(
        backbone, members, data.train, side_by_side=True, device=device, on_step=lambda _: thetas.append(theta())
    )
    average = theta()
    trainer.run()
    for step, weights in enumerate(thetas):
        decay = min(0.3, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weights
    assert isinstance(trainer._engine, SideBySide)
    found = trainer._engine._average.state()["average"].double().cpu()
    torch.testing.assert_close(found, average, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(found, theta(), atol=1e-5)


def test_members_of_other_decays_are_refused(vit: nn.Module, data: SearchData) -> None:
    one, other = (members_of(vit, space_of(vit), len(data.train), 1, ema_decay=decay)[0] for decay in (0.8, 0.9))
    patient = members_of(vit, space_of(vit), len(data.train), 1, patience=2)
    with pytest.raises(ConfigError, match="member 0 has patience: a stack trains all steps of its members"):
        StackedTrainer(vit, patient, data.train)
    with pytest.raises(ConfigError, match=r"member 1 has ema_decay 0.9, member 0 0.8"):
        StackedTrainer(vit, [one, other], data.train)
