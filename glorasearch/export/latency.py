"""How long a merged model takes beside its original backbone: both take turns, so that a busy machine slows both."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from glorasearch.export.verify import evaluating

SECONDS: Final = 1.0
"""After this time no further pair is begun, once there are `LEAST`."""
LEAST: Final = 5
MOST: Final = 100
WARM_UP: Final = 2
"""Forward passes of each model before the first that counts."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """What a forward pass takes, of two models on the same images."""

    original: float
    """Median, ms."""
    merged: float
    """Median, ms."""
    ratio: float
    """Median over the pairs of merged / original."""
    interval: tuple[float, float]
    """95 % interval of that median, of the order of the pairs' ratios."""
    pairs: int
    """Forward passes of each."""
    images: int
    """Of a forward pass."""
    device: str
    threads: int


@torch.inference_mode()
def side_by_side(original: nn.Module, merged: nn.Module, images: Tensor) -> Latencies:
    """Time two models in turns on images `(N, C, H, W)` on their device, each first in every other pair."""
    taken: list[tuple[float, float]] = []
    with evaluating(original), evaluating(merged):
        for model in (original, merged) * WARM_UP:
            _seconds(model, images)
        end = time.perf_counter() + SECONDS
        while len(taken) < LEAST or (len(taken) < MOST and time.perf_counter() < end):
            if len(taken) % 2:
                after = _seconds(merged, images)
                taken.append((_seconds(original, images), after))
            else:
                taken.append((_seconds(original, images), _seconds(merged, images)))
    ratios = sorted(after / before for before, after in taken)
    margin = 0.98 * len(ratios) ** 0.5  # ranks of a median's interval, by the normal approximation of the binomial
    low, high = round(len(ratios) / 2 - margin), round(len(ratios) / 2 + margin)
    return Latencies(
        original=1e3 * statistics.median(before for before, _ in taken),
        merged=1e3 * statistics.median(after for _, after in taken),
        ratio=statistics.median(ratios),
        interval=(ratios[max(0, low)], ratios[min(len(ratios) - 1, high)]),
        pairs=len(ratios),
        images=len(images),
        device=_name(images.device),
        threads=torch.get_num_threads(),
    )


def _seconds(model: nn.Module, images: Tensor) -> float:
    """Of a forward pass, to the end of what it starts on a GPU."""
    gpu = images.device.type == "cuda"
    if gpu:
        torch.cuda.synchronize(images.device)
    start = time.perf_counter()
    model(images)
    if gpu:
        torch.cuda.synchronize(images.device)
    return time.perf_counter() - start


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
