"""What a benchmark leaves of one measurement for the next: nothing."""

from __future__ import annotations

import gc

import torch


def clean(device: str) -> None:
    """Forget compiled code, collect what refers to itself, and give the device's memory back."""
    torch._dynamo.reset()
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
