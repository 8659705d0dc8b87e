"""Randomness inside the model (drop path, dropout), tied to the step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from glorasearch.training.paths import MODEL_TAG, step_generator


def drop_probabilities(model: nn.Module) -> dict[str, float]:
    """Module name → probability, of every module that drops something in training mode.

    Known are torch's dropouts, timm's drop path and drop block (`drop_prob`) and its patch dropout (`prob`).
    """
    found: dict[str, float] = {}
    for name, module in model.named_modules():
        dropout = isinstance(module, nn.modules.dropout._DropoutNd)
        for attribute in ("drop_prob", "prob", *(("p",) if dropout else ())):
            value = getattr(module, attribute, None)
            if isinstance(value, (int, float)) and value > 0:
                found[name] = float(value)
    return found


@contextmanager
def model_randomness(
    enabled: bool, seed: int, step: int, number: int, device: torch.device, rank: int = 0
) -> Iterator[None]:
    """Seed torch's global generators for one forward pass and put them back afterwards.

    Dropout and drop path draw from the global generators and take none as an argument, so these are seeded from
    (seed, step, number of the pass, rank) for the time of the pass only.
    """
    if not enabled:
        yield
        return
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(step_generator(seed, step, MODEL_TAG + number, rank).integers(2**62)))
        yield
