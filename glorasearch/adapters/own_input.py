"""The images that a timm model is for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from timm.models import get_model_input_config
from torch import nn

Shape = tuple[int, int, int]
"""Channels, height, width."""


def own_shape(model: nn.Module) -> Shape:
    """The images that a timm model is built for.

    A model of a local directory that takes any size, such as one with `dynamic_img_size`, is for the size that the
    directory names, where its `img_size` is also the directory's: that is only the size of its table of positions.
    """
    found = get_model_input_config(model)
    channels, height, width = found["input_size"]
    source: Mapping[str, Any] = getattr(model, "pretrained_model_args", None) or {}
    built: Mapping[str, Any] = getattr(model, "_model_args", None) or {}
    cfg: Mapping[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    size, named = source.get("img_size"), cfg.get("input_size")
    if not found["fixed_input_size"] and named and size is not None and built.get("img_size") == size:
        height, width = named[1:]
    return channels, height, width
