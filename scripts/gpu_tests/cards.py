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
