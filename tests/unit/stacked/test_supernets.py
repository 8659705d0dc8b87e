"""Members are read off one supernet a space: what they start from is what each would start from alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from support.data import few_digits
from support.models import tiny_vit
from support.stacks import double, members_of, space_of
from torch import Tensor, nn

from glorasearch.adapters import adaptable_layers
from glorasearch.data import SearchData
from glorasearch.space import BoundSpace, SearchSpace
from glorasearch.stacked import Member, StackedTrainer, Supernets
from glorasearch.stacked.transfer import copy_together
from glorasearch.supernet import Supernet
from glorasearch.weights import tensor_digest

DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])


@torch.no_grad()
def alone(backbone: nn.Module, member: Member) -> dict[str, Tensor]:
    """The adapter state of a supernet that is built for this member."""
    supernet = Supernet(backbone, member.space, seed=member.config.seed)
    if member.start is not None:
        supernet.load_adapter_state(member.start)
    return {name: value.cpu().clone() for name, value in supernet.adapter_state().items()}


def check_starts(trainer: StackedTrainer, backbone: nn.Module, members: list[Member]) -> None:
    """Bit for bit; the digest, which a checkpoint is known by, too."""
    facts = trainer.facts["members"]
    for number, member in enumerate(members):
        expected = alone(backbone, member)
        found = {name: value.cpu() for name, value in trainer._engine.member_state(number).items()}
        assert found
        assert all(torch.equal(value, expected[name]) for name, value in found.items())
        whole = trainer.state(number)
        assert whole.keys() == expected.keys()
        assert all(torch.equal(value, expected[name]) for name, value in whole.items())
        assert facts[number]["start"] == tensor_digest(expected)


def convnext() -> tuple[nn.Module, list[BoundSpace], SearchData]:
    torch.manual_seed(0)
    model = timm.create_model("convnext_atto", in_chans=1, num_classes=10, dims=(8, 8, 12, 16), depths=(1, 1, 1, 1))
    spaces = [SearchSpace.load(name).bind(adaptable_layers(model)) for name in ("convnext_glora", "ssf")]
    return model.eval(), spaces, few_digits(32)


def transformer() -> tuple[nn.Module, list[BoundSpace], SearchData]:
    model = double(tiny_vit())
    return model, [space_of(model), space_of(model, {"B": ["none", "lora:2"], "E": ["vector"]})], few_digits()


@DEVICES
@pytest.mark.parametrize("side_by_side", [True, False], ids=["side by side", "one by one"])
@pytest.mark.parametrize("made", [transformer, convnext], ids=["transformer", "convnext"])
def test_members_start_as_each_would_alone(
    made: Callable[[], tuple[nn.Module, list[BoundSpace], SearchData]], tmp_path: Path, side_by_side: bool, device: str
) -> None:
    """Fresh and inherited starts, in two stacks on the same supernets, which the first one has used."""
    backbone, spaces, data = made()
    backbone.to(device)
    members = members_of(backbone, spaces, len(data.train), 8)
    kept = Supernets(backbone)
    for part in (members[:5], members[5:]):
        trainer = StackedTrainer(
            kept, part, data.train, device=device, side_by_side=side_by_side, checkpoint=tmp_path / "stack"
        )
        assert trainer.kind == ("side by side" if side_by_side else "one by one")
        check_starts(trainer, backbone, part)


def test_stacks_on_kept_supernets_end_with_the_same_bits(vit: nn.Module, data: SearchData) -> None:
    members = members_of(vit, space_of(vit), len(data.train), 6)
    kept = Supernets(vit)
    for part in (members[:3], members[3:]):
        one, other = (StackedTrainer(on, part, data.train, side_by_side=True) for on in (vit, kept))
        assert torch.equal(one.run().loss, other.run().loss)
        for number in range(3):
            expected, found = one.state(number), other.state(number)
            assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_supernet_a_space_is_built_whatever_members_there_are(vit: nn.Module, data: SearchData) -> None:
    spaces = [space_of(vit), space_of(vit, {"E": ["vector"]})]
    kept = Supernets(vit)
    built = [kept.of(space) for space in spaces]
    StackedTrainer(kept, members_of(vit, spaces, len(data.train), 6), data.train, side_by_side=True)
    assert [kept.of(space) for space in spaces] == built
    assert kept.of(space_of(vit, {"E": ["vector"]})) is built[1]  # bound again


@DEVICES
def test_tensors_are_copied_together(device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((3, 4), (), (0,), (5,))]
    whole = torch.zeros(4, 3, device=device)
    targets = [whole.T, *(torch.zeros(value.shape, device=device) for value in values[1:])]
    copy_together(targets, values)
    for target, value in zip([whole.T, *targets[1:]], values, strict=True):
        assert torch.equal(target.cpu(), value.float())
