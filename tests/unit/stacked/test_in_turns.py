"""Members that take turns in one fused step, as it is computed without a GPU; bounds are in `numerics/test_turns`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from support.models import TINY_VIT, tiny_vit
from support.stacks import (
    CHOICES,
    SHARED,
    STEPS,
    differences,
    double,
    killed_and_resumed,
    members_of,
    norms_of,
    numbered,
    space_of,
    trained_alone,
)
from torch import Tensor, nn

from glorasearch.config import Compile
from glorasearch.data import SearchData
from glorasearch.space import BoundSpace
from glorasearch.stacked import Member, MixedImages, StackedTrainer, Supernets
from glorasearch.stacked.in_turns import InTurns
from glorasearch.supernet import Supernet
from glorasearch.weights import tensor_digest


def made(backbone: nn.Module | Supernets, data: SearchData, count: int = 3, **changes: Any) -> list[Member]:
    """Members of every choice class that may take turns."""
    model = backbone.backbone if isinstance(backbone, Supernets) else backbone
    return members_of(model, space_of(model, CHOICES), len(data.train), count, **SHARED | changes)


def bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("count", [1, 3])
def test_killed_and_resumed_ends_with_the_same_bits(data: SearchData, tmp_path: Path, count: int) -> None:
    """Checkpoints are written after steps 3 and 6 of 8; warm-ups end before and after them; paths are dropped, and
    averages of the weights taken."""
    backbone = tiny_vit(drop_path_rate=0.2)
    members = made(backbone, data, count, drop_path=0.2, ema_decay=0.8)

    def trainer(**given: Any) -> StackedTrainer:
        return StackedTrainer(backbone, members, data.train, in_turns=True, **given)

    whole, resumed = killed_and_resumed(trainer, tmp_path)
    images = torch.arange(5)
    assert torch.equal(resumed.logits(data.search, images), whole.logits(data.search, images))
    assert all(bits(resumed.state(number), whole.state(number)) for number in range(count))


def test_a_member_that_diverges_leaves_the_others_alone(vit: nn.Module, data: SearchData) -> None:
    members = made(vit, data)
    wild = members[1].config.replace(lr=1e200, vector_lr=1e200)
    bad = replace(members[1], config=wild, subnet=members[1].space.largest())
    trainer = StackedTrainer(vit, [members[0], bad, members[2]], data.train, in_turns=True)
    assert trainer.run().finite.tolist() == [True, False, True]
    undisturbed = StackedTrainer(vit, members, data.train, in_turns=True)
    undisturbed.run()
    for number in (0, 2):
        assert bits(trainer.state(number), undisturbed.state(number))
        alone = trained_alone(vit, members[number], data.train).adapter_state()
        assert max(differences(alone, trainer.state(number)).values()) < 1e-7


def test_they_start_as_each_would_alone(vit: nn.Module, data: SearchData, tmp_path: Path) -> None:
    """Fresh and inherited starts, in two stacks on the same supernets."""
    kept, members = Supernets(vit), made(vit, data, 6)
    for part in (members[:3], members[3:]):
        trainer = StackedTrainer(kept, part, data.train, in_turns=True, checkpoint=tmp_path / "stack")
        for number, member in enumerate(part):
            supernet = Supernet(vit, member.space, seed=member.config.seed)
            if member.start is not None:
                supernet.load_adapter_state(member.start)
            assert bits(trainer.state(number), supernet.adapter_state())
            assert trainer.facts["members"][number]["start"] == tensor_digest(supernet.adapter_state())


def test_logits_are_those_of_the_merged_models(vit: nn.Module, data: SearchData) -> None:
    members = made(vit, data)
    trainer = StackedTrainer(vit, members, data.train, in_turns=True)
    trainer.run()
    positions = torch.randint(len(data.search), (3, 70), generator=torch.Generator().manual_seed(0))
    found = trainer.logits(data.search, positions)
    for number, member in enumerate(members):
        supernet = Supernet(vit, member.space)
        supernet.load_adapter_state(trainer.state(number))
        with torch.no_grad():
            expected = supernet.merged(member.subnet)(data.search.batch(positions[number])[0])
        torch.testing.assert_close(found[number], expected.float(), rtol=1e-5, atol=1e-6)


def test_soft_targets_of_mixed_images(vit: nn.Module, data: SearchData) -> None:
    """As one by one; a taught pick learns from these."""
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randint(len(data.train), (2, 40), generator=generator)
    targets = torch.rand(40, data.train.classes, generator=generator).softmax(-1)
    mixed = MixedImages(first=first, second=second, share=torch.rand(40, generator=generator), targets=targets)
    members = members_of(vit, space_of(vit), len(mixed), 3, **SHARED)
    turns, one = (StackedTrainer(vit, members, data.train, targets=mixed, in_turns=how) for how in (True, False))
    torch.testing.assert_close(turns.run().loss, one.run().loss, rtol=1e-5, atol=1e-6)
    for number in range(3):
        assert max(differences(one.state(number), turns.state(number)).values()) < 1e-6


def test_unfinished_warm_ups_are_counted(vit: nn.Module, data: SearchData) -> None:
    space = space_of(vit, {"B": ["lora:1", "dash:2:4"]}, options={"dash": {"warmup": STEPS + 1}})
    members = members_of(vit, space, len(data.train), 4, **SHARED)
    engines = [StackedTrainer(vit, members, data.train, in_turns=how) for how in (True, False)]
    for trainer in engines:
        trainer.run()
    found = engines[0]._engine.warming()
    assert found["dash"] > 1
    assert found == engines[1]._engine.warming()


def test_memory_is_that_of_one_member(vit: nn.Module, data: SearchData, caplog: pytest.LogCaptureFixture) -> None:
    """So two members have room where one has; without enough of it activations are computed again."""
    sizes = []
    for count in (1, 2):
        engine = StackedTrainer(vit, made(vit, data, count), data.train, in_turns=True)._engine
        sizes.append((engine.fixed_bytes, engine.kept(torch.zeros(count * 6, 1, 14, 14))))
    assert sizes[0] == sizes[1]
    room = (sizes[0][0] + sizes[0][1].whole * 0.9) / 2**30
    small = made(vit, data, 2, memory_gib=room)
    trainer = StackedTrainer(vit, small, data.train, in_turns=True)
    with caplog.at_level(logging.WARNING):
        trainer.run()
    assert "computed again in the backward pass" in caplog.text
    wide = StackedTrainer(vit, made(vit, data, 2), data.train, in_turns=True)
    wide.run()
    assert all(bits(trainer.state(number), wide.state(number)) for number in range(2))


@pytest.mark.parametrize("compile", ["auto", "on"])
def test_a_step_that_cannot_be_captured(
    vit: nn.Module, data: SearchData, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, compile: Any
) -> None:
    """It was done before the capture failed, as may be on a GPU, and runs without from then on."""
    expected = StackedTrainer(vit, made(vit, data), data.train, in_turns=True)
    expected.run()
    trainer = StackedTrainer(vit, made(vit, data), data.train, in_turns=True, compile=compile)
    assert isinstance(trainer._engine, InTurns)
    fused = trainer._engine._fused
    first = fused._do

    def fail(*given: Any) -> None:
        monkeypatch.setattr(fused, "_do", first)
        first(*given)
        raise RuntimeError("no capture")

    monkeypatch.setattr(fused, "_do", fail)
    if compile == "on":
        with pytest.raises(RuntimeError, match="no capture"):
            trainer.run()
        return
    trainer.run()
    assert "cannot be compiled and captured here (no capture)" in caplog.text
    assert fused._eager
    assert all(bits(trainer.state(number), expected.state(number)) for number in range(3))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"clip_norm": 0.7}, "member 1 has clip_norm 0.7, member 0 0.5"),
        ({"weight_decay": 0.1}, "member 1 has weight_decay 0.1, member 0 0.05"),
        ({"label_smoothing": 0.0}, "member 1 has label_smoothing 0.0, member 0 0.1"),
        ({"dropout": 0.1}, "member 1 has dropout 0.1, member 0 0.0"),
    ],
)
def test_members_that_differ_in_a_constant_of_the_step_go_another_way(
    vit: nn.Module, data: SearchData, changes: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    one, other = made(vit, data, 2)
    members = [one, replace(other, config=other.config.replace(**changes))]
    assert StackedTrainer(vit, members, data.train, in_turns=True).kind == "one by one"
    assert reason in caplog.text
    if "dropout" not in changes:
        assert StackedTrainer(vit, members, data.train, side_by_side=True, in_turns=True).kind == "side by side"


def spaces(model: nn.Module) -> list[BoundSpace]:
    return [space_of(model, {"B": ["lora:2"]}), space_of(model, {"B": ["lora:3"]})]


@pytest.mark.parametrize(
    ("space", "changes", "reason"),
    [
        (spaces, {}, "member 1 is of another search space"),
        (norms_of, {}, "is a norm"),
        (space_of, {"dropout": 0.1}, "no dropout of hidden units"),
        (space_of, {"drop_path": 0.2, "recompute": "on"}, "what drops at random is not computed again"),
        (space_of, {"drop_path": 0.2, "memory_gib": 1e-5}, "what drops at random is not computed again"),
    ],
)
def test_what_the_fused_step_does_not_cover_goes_another_way(
    data: SearchData,
    space: Callable[[nn.Module], Any],
    changes: dict[str, Any],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    backbone = tiny_vit(drop_path_rate=changes.get("drop_path", 0.0))
    members = members_of(backbone, space(backbone), len(data.train), 2, **SHARED | changes)
    assert StackedTrainer(backbone, members, data.train, in_turns=True).kind == "one by one"
    assert reason in caplog.text


def test_a_backbone_that_reads_its_weights_goes_another_way(data: SearchData, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    backbone = timm.create_model("beit_base_patch16_224", num_classes=10, **TINY_VIT).eval()
    members = members_of(backbone, space_of(backbone, {"B": ["none", "lora:2"]}), len(data.train), 2, **SHARED)
    assert StackedTrainer(backbone, members, data.train, in_turns=True).kind == "one by one"
    assert "reads the weight of blocks.0.attn.qkv" in caplog.text


def test_memory_that_is_gone_when_training_begins_changes_no_number(
    data: SearchData, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Paths that are dropped are dropped again when activations are computed again; a captured step could not."""
    backbone = double(tiny_vit(drop_path_rate=0.2))
    members = made(backbone, data, 2, drop_path=0.2)
    wide, tight = (StackedTrainer(backbone, members, data.train, in_turns=True) for _ in range(2))
    expected = wide.run()
    monkeypatch.setattr("glorasearch.training.memory.memory_of", lambda *_: 1000)
    with caplog.at_level(logging.WARNING):
        found = tight.run()
    assert "is not computed again in a captured step" in caplog.text
    assert torch.equal(found.loss, expected.loss)
    assert all(bits(tight.state(number), wide.state(number)) for number in range(2))


def test_numbers_have_no_label_smoothing(vit: nn.Module, data: SearchData) -> None:
    """As in the other engines."""
    split = numbered(data.train, len(data.train))
    members = members_of(vit, space_of(vit), len(split), 2, **SHARED)
    turns = StackedTrainer(vit, members, split, in_turns=True)
    alone = StackedTrainer(vit, members, split, side_by_side=False)
    torch.testing.assert_close(turns.run().loss, alone.run().loss, rtol=1e-4, atol=1e-4)


def test_a_cpu_takes_no_turns_unasked(vit: nn.Module, data: SearchData) -> None:
    assert StackedTrainer(vit, made(vit, data), data.train).kind == "one by one"


class Changing(nn.Module):
    """A backbone that changes the output of a layer in place, of which the fused step has no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 6, 1), nn.Conv2d(6, 6, 1)
        self.head = nn.Linear(6, 10)

    def get_classifier(self) -> nn.Module:
        """The head."""
        return self.head

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 1, H, W)` to `(N, 10)`."""
        logits: Tensor = self.head(self.second(self.first(x).relu_()).mean((2, 3)))
        return logits


@pytest.mark.parametrize("compile", ["auto", "on"])
def test_a_step_without_a_gradient_is_found_out_before_the_first_one(
    data: SearchData, caplog: pytest.LogCaptureFixture, compile: Compile
) -> None:
    torch.manual_seed(0)
    backbone = double(Changing().eval())
    choices = {"B": ["none", "vector"], "E": ["none", "vector"]}
    space = space_of(backbone, choices, layers={"include": ["first", "second"], "types": ["conv2d"]})
    members = members_of(backbone, space, len(data.train), 2, **SHARED)
    with caplog.at_level(logging.INFO):
        trainer = StackedTrainer(backbone, members, data.train, in_turns=True, compile=compile)
    assert trainer.kind == "one by one"
    assert (
        "the members do not take turns in one fused step: the fused step has no gradient of this model" in caplog.text
    )
    trainer.run()
    for number, member in enumerate(members):
        alone = trained_alone(backbone, member, data.train).adapter_state()
        assert max(differences(alone, trainer.state(number)).values()) == 0
