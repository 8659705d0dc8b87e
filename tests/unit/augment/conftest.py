"""A training split whose images are larger than the input."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from glorasearch.data import InputSpec, TrainSplit
from glorasearch.data.pixels import ResidentPixels

IMAGES, CLASSES = 30, 10


@pytest.fixture(scope="session")
def make_split() -> Callable[..., TrainSplit]:
    """Makes a split of 30 random images of 16 pixels, and 20 in the larger view."""

    def make(channels: int = 3, *, larger: bool = True) -> TrainSplit:
        generator = torch.Generator().manual_seed(0)
        spec = InputSpec(channels, 16, 16, (0.4,) * channels, (0.3,) * channels)
        images = torch.randint(256, (IMAGES, channels, 20, 20), generator=generator, dtype=torch.uint8)
        return TrainSplit(
            ResidentPixels(images[..., 2:-2, 2:-2].contiguous()),
            torch.arange(IMAGES) % CLASSES,
            spec,
            [bytes([number]) for number in range(IMAGES)],
            CLASSES,
            larger=ResidentPixels(images) if larger else None,
        )

    return make
