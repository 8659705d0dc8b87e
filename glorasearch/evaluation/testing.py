"""The final measurement on the test split."""

from __future__ import annotations

import torch
from torch import nn

from glorasearch.data import TestSplit
from glorasearch.errors import DataError


@torch.inference_mode()
def accuracy_on_test(
    model: nn.Module, split: TestSplit, *, device: torch.device | str = "cpu", batch_size: int = 256
) -> float:
    """Share of test images `(N, C, H, W)` that a plain model classifies correctly, between 0 and 1.

    Raises:
        DataError: if the split is not the test split.
    """
    if not isinstance(split, TestSplit):
        raise DataError(f"the report measures on the test split only, got a {type(split).__name__}")
    model = model.to(device).eval()
    correct = 0
    for start in range(0, len(split), batch_size):
        images, labels = split.batch(slice(start, min(start + batch_size, len(split))), device)
        correct += int((model(images).argmax(-1) == labels).sum())
    return correct / len(split)
