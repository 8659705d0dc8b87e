"""A stack of M members ends with the weights that M separate trainings give, in float64.

Adam divides a gradient by its size, so rounding shows in parameters whose gradient is near zero: hence 1e-7, where an
error of any kind gives 1e-3 and more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from support.data import few_digits
from support.models import tiny_vit
from support.stacks import CHOICES, OPTIONS, double, largest_difference, members_of, recipe, space_of
from torch import nn

from glorasearch.adapters import adaptable_layers
from glorasearch.data import TrainSplit
from glorasearch.space import SearchSpace
from glorasearch.stacked import Member

SPACES = Path(__file__).parents[2] / "search_spaces"

CONVOLUTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "convnext, 1x1 convolutions": ("convnext_atto", {"dims": (8, 8, 12, 16), "depths": (1, 1, 1, 1)}),
    "convnext, linear MLPs": ("convnext_tiny", {"dims": (8, 8, 12, 16), "depths": (1, 1, 1, 1)}),
    "resnet": ("resnet18", {"channels": (8, 8, 12, 16), "layers": (1, 1, 1, 1)}),
    "resnext, grouped": (
        "resnext50_32x4d",
        {"channels": (8, 8, 12, 16), "layers": (1, 1, 1, 1), "cardinality": 4, "base_width": 32},
    ),
}
CONVOLUTIONS["resnetv2, head of a convolution"] = (
    "resnetv2_50",
    {"channels": (8, 8, 12, 16), "layers": (1, 1, 1, 1), "stem_chs": 8},
)
SMALL = {
    "A": ["none", "constant", "vector", "lora:1", "lora:2", "wegeft:2"],
    "B": ["none", "constant", "vector", "lora:1", "lora:2", "fourier:9", "dash:1:2", "tsd_init:1", "tsd:1:2"],
    "C": ["none", "vector", "lora:1", "lora:2"],
    "D": ["none", "constant", "vector"],
    "E": ["none", "constant", "vector"],
}
"""Every choice class, for layers with few inputs."""


def test_members_end_as_they_do_alone(vit: nn.Module, data: TrainSplit) -> None:
    assert largest_difference(vit, members_of(vit, space_of(vit), len(data)), data) < 1e-7


def test_members_of_several_spaces(vit: nn.Module, data: TrainSplit) -> None:
    """Fixed methods among members of a search space: other layers, ranks, shared factors, aliased storage."""
    low_rank = {"A": ["none", "constant", "vector", "lora:3"], "B": ["none", "constant", "vector", "lora:2"]}
    spaces = [
        space_of(vit, {"B": ["lora:4"]}),
        space_of(vit, {"B": ["lora:8"]}, layers={"include": ["*qkv", "*fc1"]}),
        space_of(vit, {"A": ["none", "wegeft:2", "wegeft:3"]}, groups=[{"layers": ["*qkv", "*fc1"], "share": "one"}]),
        space_of(vit, low_rank, entangle="reference"),
        space_of(vit, {"E": ["vector"]}),
        space_of(vit, {"B": ["lora_qkv:2"]}),
        space_of(vit, {"E": ["none"]}),
        space_of(vit, {"A": ["wegeft:4"]}, groups=[{"layers": ["*"], "share": "two"}], layers={"include": ["*.proj"]}),
        space_of(vit),
    ]
    assert largest_difference(vit, members_of(vit, spaces, len(data), 16), data) < 1e-7


@pytest.mark.parametrize("factored", [True, False], ids=["factored", "merged"])
def test_all_shipped_spaces_in_one_stack(data: TrainSplit, factored: bool) -> None:
    """What a race has side by side: each fixed method, and the largest subnet of each space."""
    backbone = double(tiny_vit(embed_dim=60))
    layers = adaptable_layers(backbone)
    found = (SearchSpace.load(path) for path in sorted(SPACES.glob("*.toml")))
    spaces = [space.bind(layers) for space in found if space.name not in ("convnext_glora", "resnet_glora")]
    members = [
        Member(space=space, subnet=space.largest(), config=recipe(lr=3e-3, seed=number), images=torch.arange(40))
        for number, space in enumerate(spaces)
    ]
    assert len(members) >= 15
    assert largest_difference(backbone, members, data, factored=factored) < 1e-7


def test_norms_and_the_patch_embedding(vit: nn.Module, data: TrainSplit) -> None:
    lines = ["none", "constant", "vector"]
    space = space_of(
        vit,
        SMALL,
        layers={"include": ["*"], "types": ["linear", "conv2d", "norm"]},
        groups=[{"layers": ["*norm*"], "A": lines, "B": ["none"], "C": ["none"], "D": lines, "E": lines}],
    )
    assert largest_difference(vit, members_of(vit, space, len(data)), data) < 1e-7


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str) -> None:
    data = few_digits(32).train
    architecture, arguments = CONVOLUTIONS[name]
    torch.manual_seed(0)
    model = double(timm.create_model(architecture, in_chans=1, num_classes=10, **arguments).eval())
    types = ["linear", "conv2d", "norm"] if "convnext" in name else ["linear", "conv2d"]
    lines = ["none", "constant", "vector"]
    group = {
        "layers": ["*norm*", "stem.1", "*downsample.0"],
        "A": lines,
        "B": ["none"],
        "C": ["none"],
        "D": lines,
        "E": lines,
    }
    space = space_of(
        model,
        SMALL,
        layers={"include": ["*"], "types": types},
        groups=[group] if "norm" in types else [],
        options=OPTIONS,
    )
    assert largest_difference(model, members_of(model, space, len(data), 5), data) < 1e-6


def test_drop_path_and_dropout(data: TrainSplit) -> None:
    """Each member drops what it drops alone, with its own drop path: of the same seed and step."""
    rates = [0.3, 0.0, 0.15, 0.3]
    dropout = {"proj_drop_rate": 0.1, "pos_drop_rate": 0.1}
    backbones = [double(tiny_vit(drop_path_rate=rate, **dropout)) for rate in rates]
    members = [
        type(member)(**{**vars(member), "config": member.config.replace(drop_path=rate)})
        for member, rate in zip(
            members_of(backbones[0], space_of(backbones[0], CHOICES), len(data), 4), rates, strict=True
        )
    ]
    assert largest_difference(backbones[0], members, data, backbones) < 1e-7
