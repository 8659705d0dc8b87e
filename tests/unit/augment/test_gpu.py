"""Augmentation on a GPU: the images of the CPU, the same bits again, and never a wait for the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from glorasearch.data import TrainSplit
from glorasearch.training import TrainingConfig
from glorasearch.training.augment import AugmentedBatches

pytestmark = pytest.mark.gpu
RECIPES: list[dict[str, Any]] = [
    {"augment": "light"},
    {"augment": "timm", "vflip": 0.5},
    {"augment": "strong", "reprob": 1.0, "color_jitter": 0.2},
    {"auto_augment": "rand-m9-n3-mstd0.5-t3aw", "remode": "rand", "reprob": 0.5},
    {"auto_augment": "original", "cutmix": 1.0},
]


@pytest.mark.parametrize("keys", RECIPES)
def test_a_gpu_makes_the_images_of_the_cpu_without_waiting(make_split: Callable[..., TrainSplit], keys: Any) -> None:
    split, cuda = make_split(), torch.device("cuda")
    batches = AugmentedBatches.of(TrainingConfig(**keys).augmentation, split)
    assert batches is not None
    indices = torch.arange(24)
    on_gpu = [batches.rank(0, step, indices, 0, 1, cuda) for step in range(3)]  # images and constants get there
    torch.cuda.synchronize()
    try:
        torch.cuda.set_sync_debug_mode("error")
        again = [batches.rank(0, step, indices, 0, 1, cuda) for step in range(3)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for step, ((images, targets), (images_again, targets_again)) in enumerate(zip(on_gpu, again, strict=True)):
        assert torch.equal(images, images_again)
        assert torch.equal(targets, targets_again)
        expected, wanted = batches.rank(0, step, indices, 0, 1, torch.device("cpu"))
        # A rounded value may fall to the other side of a threshold of posterize, solarize or equalize.
        differing = (images.cpu() - expected).abs() > 1e-3
        assert float(differing.float().mean()) < 0.01
        assert torch.allclose(targets.cpu().double(), wanted.double(), atol=1e-6)
