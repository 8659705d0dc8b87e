"""The cards of this machine."""

from __future__ import annotations

import os
from typing import Final

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"


def cards_here() -> list[str]:
    """What CUDA_VISIBLE_DEVICES calls them; imports torch."""
    import torch

    allowed = os.environ.get(VISIBLE)
    count = torch.cuda.device_count()
    return allowed.split(",")[:count] if allowed else [str(number) for number in range(count)]


def gpu_name() -> str | None:
    """Of the first card; imports torch."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
