"""Members that cannot be stacked are found out, and trained one after the other."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping

import pytest
import timm
import torch
from support.models import TINY_VIT, tiny_vit
from support.stacks import differences, double, members_of, space_of, trained_alone
from timm.layers import DropPath
from torch import Tensor, nn

from glorasearch.choices import CHOICES as CLASSES
from glorasearch.choices import Choice, Contribution, LowRank, Part, Site
from glorasearch.data import SearchData
from glorasearch.errors import BackboneError
from glorasearch.stacked import StackedTrainer


class Mixing(nn.Module):
    """A model whose forward pass subtracts the mean over the batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList([nn.Linear(196, 12)])
        self.head = nn.Linear(12, 10)

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward(self, x: Tensor) -> Tensor:
        seen = self.blocks[0](x.flatten(1).double()).tanh()
        return self.head(seen - seen.mean(0))


def test_a_backbone_that_mixes_its_images_is_trained_one_by_one(
    data: SearchData, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    backbone = Mixing().double()
    members = members_of(backbone, space_of(backbone, {"B": ["lora:2"]}), len(data.train), 3)
    trainer = StackedTrainer(backbone, members, data.train, side_by_side=True)
    assert trainer.kind == "one by one"
    assert caplog.text.count("side by side than alone") == 1
    trainer.run()
    for number, member in enumerate(members):
        alone = trained_alone(backbone, member, data.train).adapter_state()
        assert max(differences(alone, trainer.state(number)).values()) < 1e-7


def test_a_head_without_a_stacked_form(data: SearchData, caplog: pytest.LogCaptureFixture) -> None:
    backbone = Mixing().double()
    backbone.head = nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 10)).double()  # type: ignore[assignment]
    members = members_of(backbone, space_of(backbone, {"B": ["lora:2"]}), len(data.train), 2)
    assert StackedTrainer(backbone, members, data.train, side_by_side=True).kind == "one by one"
    assert "its head has a LayerNorm" in caplog.text


def test_members_of_a_model_that_reads_weights_are_trained_one_by_one(
    data: SearchData, caplog: pytest.LogCaptureFixture
) -> None:
    backbone = timm.create_model("beit_base_patch16_224", num_classes=10, **TINY_VIT).eval()
    members = members_of(backbone, space_of(backbone, {"B": ["none", "lora:2"]}), len(data.train), 2)
    with caplog.at_level(logging.WARNING):
        StackedTrainer(backbone, members, data.train, side_by_side=True).run()
    assert "it reads the weight of blocks.0.attn.qkv" in caplog.text


class Flat(Choice):
    """Is right for one layer, but not for several at once."""

    name = "flat"
    tensors = "B"

    @classmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        return {"flat_left": Part((site.rows, 2))}

    @classmethod
    def contribution(cls, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> Contribution:
        return Contribution(shift=LowRank(parts["flat_left"], base[:2]))


def test_a_choice_that_allows_no_leading_dimension(
    vit: nn.Module, data: SearchData, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does nothing at the start, and yet is found out before the first step."""
    monkeypatch.setitem(CLASSES, "flat", Flat)
    members = members_of(vit, space_of(vit, {"B": ["flat"]}), len(data.train), 2)
    members = [dataclasses.replace(member, start=None) for member in members]
    assert StackedTrainer(vit, members, data.train, side_by_side=True).kind == "one by one"
    assert "cannot be stacked" in caplog.text


def test_what_is_dropped_elsewhere_is_found_out(data: SearchData, caplog: pytest.LogCaptureFixture) -> None:
    """Fused attention drops without its module; a block without a residual has a drop path that nothing calls."""
    attention, unused = tiny_vit(attn_drop_rate=0.1), tiny_vit(drop_path_rate=0.1)
    unused.add_module("without_residual", DropPath(0.1))
    for backbone, kind in ((attention, "one by one"), (unused, "side by side")):
        members = members_of(backbone, space_of(backbone, {"B": ["lora:2"]}), len(data.train), 2, drop_path=0.1)
        assert StackedTrainer(backbone, members, data.train, side_by_side=True).kind == kind
    assert "attn_drop is never called" in caplog.text


@pytest.mark.parametrize("side_by_side", [True, False])
def test_members_drop_what_they_drop_alone(data: SearchData, side_by_side: bool) -> None:
    backbone = double(tiny_vit(drop_path_rate=0.3))
    members = members_of(backbone, space_of(backbone), len(data.train), 3, drop_path=0.3)
    trainer = StackedTrainer(backbone, members, data.train, side_by_side=side_by_side)
    before = trainer.logits(data.train, torch.arange(4))
    trainer.run()
    for number, member in enumerate(members):
        alone = trained_alone(backbone, member, data.train).adapter_state()
        assert max(differences(alone, trainer.state(number)).values()) < 1e-7
    assert not torch.equal(trainer.logits(data.train, torch.arange(4)), before)


def test_a_layer_that_is_never_called_is_refused(data: SearchData) -> None:
    backbone = Mixing().double()
    backbone.blocks.append(nn.Linear(12, 12).double())
    members = members_of(backbone, space_of(backbone, {"B": ["lora:2"]}), len(data.train), 2)
    with pytest.raises(BackboneError, match="never uses"):
        StackedTrainer(backbone, members, data.train)
