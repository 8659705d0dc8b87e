"""Members that take turns in one fused step end with the weights that separate trainings give, in float64.

As in `test_stacked_training`, whose bound holds here, too.
"""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from support.data import few_digits
from support.models import tiny_vit
from support.stacks import CHOICES, SHARED, double, largest_of, members_of, space_of
from torch import nn

from glorasearch.data import TrainSplit
from glorasearch.stacked import Member, StackedTrainer


def difference(backbone: nn.Module, members: list[Member], data: TrainSplit, **given: Any) -> float:
    trainer = StackedTrainer(backbone, members, data, in_turns=True, **given)
    assert trainer.kind == "in turns"
    return largest_of(trainer, [backbone] * len(members), members, data)


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.8}, {"clip_norm": 0.0}, {"recompute": "on"}], ids=str)
def test_members_end_as_they_do_alone(vit: nn.Module, data: TrainSplit, changes: dict[str, Any]) -> None:
    """Random subnets of every choice class, whose warm-ups end on the way."""
    members = members_of(vit, space_of(vit), len(data), **SHARED | changes)
    assert difference(vit, members, data) < 1e-7


@pytest.mark.parametrize(
    "content",
    [
        {
            "entangle": "reference",
            "choices": {"A": ["none", "vector", "lora:3"], "B": ["constant", "lora:1", "lora:2"]},
        },
        {"choices": {"A": ["none", "wegeft:2", "wegeft:3"]}, "groups": [{"layers": ["*qkv", "*fc1"], "share": "one"}]},
        {"choices": {"E": ["none"]}},
    ],
    ids=["aliased storage", "shared factors", "the head alone"],
)
def test_other_spaces(vit: nn.Module, data: TrainSplit, content: dict[str, Any]) -> None:
    assert difference(vit, members_of(vit, space_of(vit, **content), len(data), 4, **SHARED), data) < 1e-7


def test_each_drops_what_it_drops_alone(data: TrainSplit) -> None:
    """Of its own seed."""
    backbone = double(tiny_vit(drop_path_rate=0.3, proj_drop_rate=0.1))
    members = members_of(backbone, space_of(backbone), len(data), **SHARED, drop_path=0.3)
    assert difference(backbone, members, data) < 1e-7


def test_each_has_the_weights_of_its_own_classes(vit: nn.Module, data: TrainSplit) -> None:
    """The images that a member may see are unequally many of each class."""
    members = members_of(vit, space_of(vit), len(data), 4, **SHARED, balance="loss")
    assert difference(vit, members, data) < 1e-7


def test_convolutions() -> None:
    """Which a fused step has where compilation is asked for."""
    data = few_digits(32).train
    torch.manual_seed(0)
    model = timm.create_model("convnext_atto", in_chans=1, num_classes=10, dims=(8, 8, 12, 16), depths=(1, 1, 1, 1))
    backbone = double(model.eval())
    space = space_of(
        backbone,
        {one: [choice for choice in CHOICES[one] if ":3" not in choice and ":4" not in choice] for one in "BE"},
        layers={"include": ["*"], "types": ["linear", "conv2d"]},
    )
    assert difference(backbone, members_of(backbone, space, len(data), 3, **SHARED), data, compile="on") < 1e-6
