"""Whether a tensor of a file is what the model has under its name, and the words for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

State = Mapping[str, Tensor]


def other_shape(name: str, value: Any, own: State, within: str | tuple[str, ...] = "") -> bool:
    """Whether the model has another shape for a tensor within some modules."""
    known = name.startswith(within) and name in own
    return known and isinstance(value, Tensor) and value.shape != own[name].shape


def other_kind(name: str, value: Tensor, own: State) -> bool:
    """Whether a tensor of real numbers is one of codes (of a quantised model), or complex, in the file."""
    return name in own and own[name].is_floating_point() and not value.is_floating_point()


def form(tensor: Tensor) -> str:
    """A tensor's shape, and what it holds if that is not real numbers."""
    kind = "" if tensor.is_floating_point() else f" {str(tensor.dtype).removeprefix('torch.')}"
    return f"{tuple(tensor.shape)}{kind}"


def is_broken(tensor: Tensor) -> bool:
    """Whether a parameter is not finite; buffers may have infinite values, as masks do."""
    wrong = ~torch.isfinite(tensor.detach()) if isinstance(tensor, nn.Parameter) else torch.isnan(tensor)
    return bool(wrong.any())


def pattern(name: str) -> str:
    """What the module, or the block, of a tensor is named by."""
    segments = name.split(".")
    depth = 2 if len(segments) > 1 and segments[1].isdecimal() else 1
    return f"{'.'.join(segments[:depth])}.*" if len(segments) > depth else name


def few(names: Sequence[str]) -> str:
    """The first of some names."""
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown}, ... ({len(names)} in all)"
