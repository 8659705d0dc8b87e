"""A stack: its checkpoints, what it learns from, and what it does where members cannot be stacked or diverge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.models import tiny_vit
from support.stacks import CHOICES, differences, killed_and_resumed, members_of, recipe, space_of, trained_alone
from torch import Tensor, nn

from glorasearch.data import SearchData
from glorasearch.errors import ConfigError, SearchSpaceError, WeightStoreError
from glorasearch.stacked import Member, MixedImages, StackedTrainer, Supernets, stack_size
from glorasearch.stacked.memory import member_bytes
from glorasearch.supernet import Supernet
from glorasearch.training import TrainingRecord

SIDES = pytest.mark.parametrize("side_by_side", [True, False], ids=["side by side", "one by one"])


def replaced(member: Member, **changes: Any) -> Member:
    return Member(**{**vars(member), **changes})


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@SIDES
def test_killed_and_resumed_ends_with_the_same_bits(data: SearchData, tmp_path: Path, side_by_side: bool) -> None:
    """Checkpoints are written after steps 3 and 6 of 8; warm-ups end before and after them; paths are dropped."""
    backbone = tiny_vit(drop_path_rate=0.2)
    members = members_of(backbone, space_of(backbone, CHOICES), len(data.train), 3, drop_path=0.2)

    def trainer(**given: Any) -> StackedTrainer:
        return StackedTrainer(backbone, members, data.train, side_by_side=side_by_side, **given)

    whole, resumed = killed_and_resumed(trainer, tmp_path)
    for number in range(len(members)):
        assert equal(resumed.state(number), whole.state(number))


def test_a_checkpoint_of_other_members_is_not_resumed(
    vit: nn.Module, data: SearchData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    members = members_of(vit, space_of(vit), len(data.train), 2)
    StackedTrainer(vit, members, data.train, checkpoint=tmp_path / "stack").run()
    others = [members[0], replaced(members[1], images=members[1].images[:-1])]
    steps: list[int] = []
    StackedTrainer(vit, others, data.train, checkpoint=tmp_path / "stack", on_step=steps.append).run()
    assert steps[0] == 1
    assert "belongs to another training" in caplog.text


def test_a_member_ends_alike_whatever_its_neighbours(vit: nn.Module, data: SearchData) -> None:
    members = members_of(vit, space_of(vit), len(data.train), 4)
    four = StackedTrainer(vit, members, data.train, side_by_side=True)
    four.run()
    one = StackedTrainer(vit, members[2:3], data.train, side_by_side=True)
    one.run()
    assert max(differences(four.state(2), one.state(0)).values()) < 1e-7


@SIDES
def test_logits_are_those_of_the_merged_models(vit: nn.Module, data: SearchData, side_by_side: bool) -> None:
    members = members_of(vit, space_of(vit), len(data.train), 4)
    trainer = StackedTrainer(vit, members, data.train, side_by_side=side_by_side)
    trainer.run()
    positions = torch.randint(len(data.search), (4, 70), generator=torch.Generator().manual_seed(0))
    found = trainer.logits(data.search, positions)
    common = trainer.logits(data.search, positions[0])
    assert found.shape == (4, 70, 10)
    for number, member in enumerate(members):
        supernet = Supernet(vit, member.space)
        supernet.load_adapter_state(trainer.state(number))
        merged = supernet.merged(member.subnet)
        with torch.no_grad():
            expected = merged(data.search.batch(positions[number])[0])
            torch.testing.assert_close(found[number], expected.float(), rtol=1e-5, atol=1e-6)
            expected = merged(data.search.batch(positions[0])[0])
            torch.testing.assert_close(common[number], expected.float(), rtol=1e-5, atol=1e-6)


@SIDES
def test_mixed_images_and_soft_targets(vit: nn.Module, data: SearchData, side_by_side: bool) -> None:
    """A head alone, trained on mixed images, against a loop written down."""
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randint(len(data.train), (2, 15), generator=generator)
    share = torch.rand(15, generator=generator)
    share[:5] = 1
    targets = torch.rand(15, 10, generator=generator).softmax(-1)
    mixed = MixedImages(first=pairs[0], second=pairs[1], share=share, targets=targets)
    space = space_of(vit, {"E": ["none"]})
    config = recipe(batch_size=15, clip_norm=0.0, weight_decay=0.0, label_smoothing=0.1, warmup_steps=0, steps=3)
    member = Member(space=space, subnet=space.largest(), config=config, images=torch.arange(15))
    trainer = StackedTrainer(vit, [member], data.train, targets=mixed, side_by_side=side_by_side)
    trainer.run()
    images, _ = data.train.batch(torch.arange(len(data.train)))
    blended = share.view(-1, 1, 1, 1) * images[pairs[0]] + (1 - share).view(-1, 1, 1, 1) * images[pairs[1]]
    model = Supernet(vit, space).model
    adam = torch.optim.Adam(model.get_submodule("head").parameters())
    for factor in (1.0, 0.75, 0.25):  # half a cosine of three steps
        adam.param_groups[0]["lr"] = config.lr * factor
        loss = F.cross_entropy(model(blended), targets.double(), label_smoothing=0.1)
        adam.zero_grad()
        loss.backward()
        adam.step()
    expected = {name: value.detach() for name, value in model.named_parameters() if name.startswith("head.")}
    found = {name: value for name, value in trainer.state(0).items() if name.startswith("head.")}
    assert max(differences(expected, found).values()) < 1e-6  # shares and targets are float32


def test_a_member_that_diverges_leaves_the_others_alone(vit: nn.Module, data: SearchData) -> None:
    records: list[TrainingRecord] = []
    space = space_of(vit)
    members = members_of(vit, space, len(data.train), 3)
    bad = replaced(members[1], config=members[1].config.replace(lr=1e200, clip_norm=0.0), subnet=space.largest())
    trainer = StackedTrainer(
        vit, [members[0], bad, members[2]], data.train, side_by_side=True, on_record=records.append
    )
    result = trainer.run()
    assert result.finite.tolist() == [True, False, True]
    assert records[-1].values["members"] == 2
    assert 0 < records[-1].values["loss"] < 10
    alone = trained_alone(vit, members[2], data.train).adapter_state()
    assert max(differences(alone, trainer.state(2)).values()) < 1e-7


def test_what_fits_no_stack_is_refused(vit: nn.Module, data: SearchData) -> None:
    space, train = space_of(vit), data.train
    one, other = members_of(vit, space, len(train), 2)

    def refused(error: type[Exception], message: str, *members: Member, **given: Any) -> None:
        with pytest.raises(error, match=message):
            StackedTrainer(vit, members, train, **given)

    refused(ConfigError, "no members")
    refused(ConfigError, "member 1 has steps 9, member 0 8", one, replaced(other, config=recipe(steps=9)))
    refused(ConfigError, "member 0 has 2 ranks", replaced(one, config=recipe(ranks=2)))
    refused(ConfigError, "may see no image", replaced(one, images=torch.empty(0, dtype=torch.int64)))
    refused(ConfigError, "from 0 to 60, but there are 60 images", replaced(one, images=torch.tensor([0, 60])))
    refused(SearchSpaceError, "not offered", replaced(one, subnet=one.subnet.replace({space.genes[0].key: "lora:99"})))
    refused(WeightStoreError, "another supernet", replaced(one, start={"head.weight": torch.zeros(1)}))
    dropping = [replaced(one, config=recipe(drop_path=rate)) for rate in (0.1, 0.0)]
    refused(ConfigError, r"build it with build_backbone\(..., drop_path=0.1\)", *dropping)
    three = torch.tensor([0, 1, 2])
    given = {"first": three, "second": three, "share": torch.ones(3), "targets": torch.full((3, 10), 0.1)}
    for name, value, message in (
        ("share", torch.full((3,), 1.5), "share"),
        ("targets", torch.ones(3, 10), "probabilities"),
        ("second", three + 58, "positions"),
        ("first", three[:2], "lengths"),
    ):
        refused(ConfigError, message, one, targets=MixedImages(**given | {name: value}))


def test_a_stack_on_a_cpu_has_one_member(vit: nn.Module, data: SearchData) -> None:
    members = members_of(vit, space_of(vit), len(data.train), 3)
    assert stack_size(vit, members) == 1


def test_memory_of_a_member(vit: nn.Module, data: SearchData) -> None:
    """It grows with the images of a step by what they keep, and with what the member trains."""
    small, large = (space_of(vit, {"B": [choice]}) for choice in ("none", "lora:6"))
    one, other = (
        Member(space=space, subnet=space.largest(), config=recipe(batch_size=1), images=torch.arange(9))
        for space in (small, large)
    )
    supernets = Supernets(vit)
    assert member_bytes(supernets, other) > member_bytes(supernets, one)
    batches = [member_bytes(supernets, replaced(other, config=recipe(batch_size=count))) for count in (1, 2, 5)]
    assert batches[2] - batches[0] == 4 * (batches[1] - batches[0])
    tokens, width, hidden = 5, 24, 96  # at least the inputs of the blocks' layers, in float64
    assert batches[1] - batches[0] > 8 * 2 * tokens * (3 * width + hidden)
