"""A stack of one by the supernet's fused step, here as it is computed without a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from support.models import tiny_vit
from support.stacks import CHOICES, STEPS, members_of, space_of
from torch import Tensor

from glorasearch.data import SearchData
from glorasearch.fused import UnfusableError
from glorasearch.stacked import StackedTrainer, build
from glorasearch.stacked.alone import OneByOne
from glorasearch.stacked.member import Member, drop_path_shares
from glorasearch.stacked.supernets import Supernets
from glorasearch.stacked.targets import Batches, MixedImages
from glorasearch.training.fast_step import FastStep
from glorasearch.training.optimizer import lr_scale

CPU = torch.device("cpu")


def taught(data: SearchData) -> MixedImages:
    """Pairs of the training images, with answers."""
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randint(len(data.train), (2, 40), generator=generator)
    targets = torch.rand(40, data.train.classes, generator=generator).softmax(-1)
    return MixedImages(first=first, second=second, share=torch.rand(40, generator=generator), targets=targets)


def row(state: Mapping[str, Tensor]) -> Tensor:
    """An adapter state in one row."""
    return torch.cat([value.flatten().double() for value in state.values()])


def engine_of(member: Member, data: SearchData, compile: build.Compile, drop_path: float) -> OneByOne:
    supernets = Supernets(tiny_vit(drop_path_rate=drop_path))
    shares, weights = drop_path_shares(supernets.backbone, [member]), Batches([member], data.train, None).class_weights
    engine, _ = build._one_by_one(
        supernets, [member], data.train, CPU, shares, data.train.task, weights, compile=compile
    )
    assert isinstance(engine, OneByOne)
    return engine


def trained(engine: OneByOne, member: Member, data: SearchData, mixed: MixedImages | None) -> Tensor:
    """`(steps, 1, 2)`"""
    batches = Batches([member], data.train, mixed)
    rows = []
    for number in range(STEPS):
        images, targets = batches.batch(number, CPU)
        rows.append(engine.step(number, images, targets, [lr_scale(number, STEPS, member.config.warmup)]))
    return torch.stack(rows)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("drop_path", [0.0, 0.3])
@pytest.mark.parametrize("number", range(4))
def test_it_takes_the_steps_that_the_plain_one_takes(
    data: SearchData, number: int, drop_path: float, soft: bool
) -> None:
    """Random subnets of all choice classes, from either start, whose warm-ups end meanwhile."""
    vit, mixed = tiny_vit(drop_path_rate=drop_path), taught(data) if soft else None
    seen = len(data.train) if mixed is None else len(mixed)
    member = members_of(vit, space_of(vit, CHOICES), seen, 4, drop_path=drop_path)[number]
    plain, fused = (engine_of(member, data, compile, drop_path) for compile in ("off", "auto"))
    assert isinstance(fused._members[0].steps, FastStep)
    assert fused._members[0].steps._fused is not None
    start = {name: value.clone() for name, value in plain.member_state(0).items()}
    expected, found = (trained(engine, member, data, mixed) for engine in (plain, fused))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    change, other = (row(engine.member_state(0)) - row(start) for engine in (plain, fused))
    # Adam divides a gradient by its size: where that is near zero, rounding decides, and no bound holds for each entry.
    assert (change - other).norm() < 0.02 * change.norm()
    images, _ = data.train.batch(torch.arange(8))
    torch.testing.assert_close(fused.logits(images), plain.logits(images), rtol=1e-2, atol=1e-2)
    assert fused.warming() == plain.warming()


def test_classes_are_weighted(data: SearchData) -> None:
    """Of few images, so that classes differ."""
    vit = tiny_vit()
    found = []
    for balance, compile in (("loss", "off"), ("loss", "auto"), ("none", "auto")):
        member = members_of(vit, space_of(vit, {"B": ["lora:2"]}), 12, 1, balance=balance)[0]
        found.append(trained(engine_of(member, data, compile, 0.0), member, data, None))  # type: ignore[arg-type]
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-4)
    assert float((found[2] - found[0]).abs().max()) > 1e-2, "weights matter here"


def test_its_state_goes_on_in_another_engine(data: SearchData) -> None:
    vit = tiny_vit()
    member = members_of(vit, space_of(vit, CHOICES), len(data.train), 2)[1]
    one, other = (engine_of(member, data, "auto", 0.0) for _ in range(2))
    trained(one, member, data, None)
    other.load_state({name: value.clone() for name, value in one.state().items()})
    batch = Batches([member], data.train, None).batch(0, CPU)
    assert torch.equal(one.step(STEPS, *batch, [0.5]), other.step(STEPS, *batch, [0.5]))
    assert all(torch.equal(value, other.state()[name]) for name, value in one.state().items())


def test_what_the_fused_step_does_not_cover_is_refused_before_a_step(data: SearchData) -> None:
    """So that the stack is captured instead, and not trained by the plain step."""
    vit = tiny_vit()
    member = members_of(vit, space_of(vit, {"B": ["lora:2"]}), len(data.train), 1, dropout=0.1)[0]
    with pytest.raises(UnfusableError, match="dropout of hidden units"):
        engine_of(member, data, "auto", 0.0)


def test_the_way_back_to_a_stack(data: SearchData, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU."""
    monkeypatch.setattr(build, "_may_be_fused", lambda members, device: True)
    vit = tiny_vit()
    kinds = []
    for dropout in (0.0, 0.1):
        member = members_of(vit, space_of(vit, {"B": ["lora:2"]}), len(data.train), 1, dropout=dropout)[0]
        kinds.append(StackedTrainer(vit, [member], data.train, fused=True, side_by_side=not dropout).kind)
    monkeypatch.setattr(build, "check_covered", refuse)
    member = members_of(vit, space_of(vit, {"B": ["lora:2"]}), len(data.train), 1)[0]
    kinds.append(StackedTrainer(vit, [member], data.train, fused=True, side_by_side=True).kind)
    assert kinds == ["one by one", "one by one", "side by side"]


def refuse(*_: object, **given: object) -> None:
    raise UnfusableError("it does not cover this")


@pytest.mark.parametrize(
    ("count", "changes", "expected"),
    [
        (1, {}, True),
        (2, {}, False),
        (1, {"drop_path": 0.1}, False),
        (1, {"drop_path": 0.1, "recompute": "off"}, True),
        (1, {"recompute": "on"}, True),
    ],
)
def test_when_it_is_taken(data: SearchData, count: int, changes: dict[str, Any], expected: bool) -> None:
    """What drops at random is not computed again in a captured step."""
    vit = tiny_vit(drop_path_rate=0.1)
    members = members_of(vit, space_of(vit, {"B": ["lora:2"]}), len(data.train), count, **changes)
    assert build._may_be_fused(members, torch.device("cuda")) is expected
    assert not build._may_be_fused(members, CPU)


def test_a_gpu_alone_has_it(data: SearchData) -> None:
    vit = tiny_vit()
    member = members_of(vit, space_of(vit, {"B": ["lora:2"]}), len(data.train), 1)[0]
    trainer = StackedTrainer(vit, [member], data.train, fused=True)
    assert isinstance(trainer._engine, OneByOne)
    assert not isinstance(trainer._engine._members[0].steps, FastStep), "SupernetTrainer has none on a CPU either"
