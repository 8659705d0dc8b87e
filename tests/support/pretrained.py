"""Files of weights for a tiny vision transformer, and backbones that are built from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from glorasearch.backbone import BackboneConfig, build_backbone
from support.models import TINY_VIT

State = dict[str, Tensor]
NAME = "vit_tiny_patch16_224"


def without(state: Mapping[str, Tensor], *prefixes: str) -> State:
    return {name: value for name, value in state.items() if not name.startswith(prefixes)}


def prefixed(state: Mapping[str, Tensor], prefix: str) -> State:
    return {f"{prefix}{name}": value for name, value in state.items()}


def build(path: Path, classes: int = 3, args: Mapping[str, Any] = TINY_VIT, **options: Any) -> nn.Module:
    return build_backbone(BackboneConfig(name=NAME, checkpoint=str(path), args=dict(args), **options), classes)


def assert_loaded(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    own = model.state_dict()
    expected = without(state, "head.")
    assert expected
    assert all(torch.equal(own[name], value) for name, value in expected.items())
