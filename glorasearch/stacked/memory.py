"""How many members fit side by side on a device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from glorasearch.stacked.member import Member


def stack_size(backbone: nn.Module, members: Sequence[Member], device: torch.device | str = "cpu") -> int:
    """How many of these members to train side by side; at least one.

    One on a CPU, where members side by side take as long as one after the other.
    """
    if torch.device(device).type != "cuda":
        return 1
    return min(len(members), 24)
