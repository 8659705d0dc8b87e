"""What a training says of itself: while it goes on, and when it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """What is written down of a training as it goes."""

    step: int
    """Optimiser steps done."""
    values: Mapping[str, float]
    """`loss` (nats, mean since the last record), `lr`, `images_per_second`, `gradient_norm`; or probes' accuracies."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """How a training ended."""

    steps: int
    seconds: float
    """Wall-clock seconds of the training loop, those before a resume included."""
    loss: float
    """Mean loss of the last records, nats."""
