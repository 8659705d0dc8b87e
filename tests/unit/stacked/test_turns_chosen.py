"""Where members take turns when nobody says how they are trained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from support.stacks import SHARED, members_of, norms_of, space_of
from torch import nn

from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.data import SearchData
from glorasearch.space import BoundSpace
from glorasearch.stacked import Supernets, build

GPU = torch.device("cuda")


def order_of(model: nn.Module, space: BoundSpace, data: SearchData, count: int = 5, **changes: Any) -> build.Order:
    """Members of 400 steps, on a GPU."""
    recipe = SHARED | {"steps": 400, "batch_size": 64} | changes
    members = members_of(model, space, len(data.train), count, **recipe)
    return build.Order(supernets=Supernets(model), members=members, data=data.train, device=GPU, compile="auto")


@pytest.mark.parametrize(
    ("name", "expected"), [("vit_base_patch16_224", True), ("vit_tiny_patch16_224", False), ("quickstart", False)]
)
def test_turns_are_taken_where_one_member_fills_a_gpu(data: SearchData, name: str, expected: bool) -> None:
    """By the arithmetic of its step alone; on a CPU and without compilation never."""
    backbone = build_backbone(BackboneConfig(name=name, pretrained=name == "quickstart"), 10, seed=0)
    order = order_of(backbone, space_of(backbone, {"B": ["lora:2"]}), data)
    assert build._fills(order) is expected
    if expected:
        assert order.supernets.multiply_adds * 64 == pytest.approx(1.12e12, rel=0.01)
        assert not build._fills(replace(order, compile="off"))
        assert not build._fills(replace(order, device=torch.device("cpu")))
        assert not build._fills(replace(order, members=order.members[:4])), "too few steps to compile one for"
        few = [replace(one, config=one.config.replace(batch_size=16)) for one in order.members]
        assert not build._fills(replace(order, members=few))


def test_a_race_asks_for_what_its_stacks_will_do(
    vit: nn.Module, data: SearchData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also whether the step covers them; only the size of the backbone is made up."""
    monkeypatch.setattr(build, "FILLS", 1.0)
    assert build.takes_turns(order_of(vit, space_of(vit), data))
    assert not build.takes_turns(order_of(vit, norms_of(vit), data))
    assert not build.takes_turns(order_of(vit, space_of(vit), data, dropout=0.1))
    several = [space_of(vit, {"B": ["lora:2"]}), space_of(vit, {"B": ["lora:3"]})]
    mixed = members_of(vit, several, len(data.train), 2, **SHARED | {"steps": 2000})
    assert not build.takes_turns(replace(order_of(vit, several[0], data), members=mixed))


def test_counting_leaves_a_backbone_as_it_is() -> None:
    """One that is in training mode, as timm makes it, would learn the statistics of an empty image."""
    model = timm.create_model("resnet18", num_classes=10)
    model.layer1.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    assert Supernets(model).multiply_adds == pytest.approx(1.8e9, rel=0.05)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert True in modes
    assert False in modes
