"""What a training reports: records while it runs, a result at its end, an error when it diverges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from glorasearch.errors import NonFiniteLossError
from glorasearch.training.checkpoints import CheckpointStore
from glorasearch.training.config import TrainingConfig


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """Metrics of a training after some step."""

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
    """Mean loss of the last record, nats."""
    kept_step: int | None = None
    """Steps after which the weights were the best, which are kept; None without `patience`."""
    judged_images: int = 0
    """Training images that were not learnt from, but judged by."""


class LossLog:
    """Collects losses and gradient norms on the device, and reads them at records only: reading waits for the device.

    Args:
        config: of the training.
        checkpoints: of the training, for the error when it diverges.
    """

    def __init__(self, config: TrainingConfig, checkpoints: CheckpointStore | None) -> None:
        self._config, self._checkpoints = config, checkpoints
        self._unread: list[Tensor] = []
        self._step, self._seconds = 0, 0.0
        self.loss = float("nan")
        """Mean loss of the last record, nats."""

    def resume(self, step: int, seconds: float, loss: float) -> None:
        """Continue after a step, whose record is already written."""
        self._unread.clear()
        self._step, self._seconds, self.loss = step, seconds, loss

    def append(self, result: Tensor) -> None:
        """Add what a step returns, `(2,)`: loss and gradient norm, on the device."""
        self._unread.append(result)

    @property
    def has_unread(self) -> bool:
        """Whether there have been steps since the last record."""
        return bool(self._unread)

    def read(self, step: int, seconds: float, lr: float) -> TrainingRecord:
        """The record of the steps since the last one, `step` being the number of steps done.

        Raises:
            NonFiniteLossError: if a loss or a gradient norm is not finite.
        """
        recent = torch.stack(self._unread).cpu()
        self._unread.clear()
        finite = torch.isfinite(recent).all(dim=1)
        if not bool(finite.all()):
            first = int((~finite).nonzero()[0])
            loss, norm = recent[first].tolist()
            at = step - len(recent) + first + 1
            raise self.diverged(f"training stopped in step {at}: loss {loss}, gradient norm {norm}")
        self.loss = float(recent[:, 0].mean())
        steps, duration = step - self._step, seconds - self._seconds
        self._step, self._seconds = step, seconds
        values = {
            "loss": self.loss,
            "lr": lr,
            "gradient_norm": float(recent[:, 1].mean()),
            "images_per_second": steps * self._config.batch_size / max(duration, 1e-9),
        }
        return TrainingRecord(step, values)

    def diverged(self, what: str) -> NonFiniteLossError:
        """The error to raise when something stops being finite; it says what to try, and where a checkpoint is."""
        config = self._config
        location: str | None = None
        if self._checkpoints is not None:
            self._checkpoints.wait()
            location = self._checkpoints.location()
        rates = ("lr", "vector_lr", "spectrum_lr", "head_lr")
        given = [f"{name} is {rate:g}" for name in rates if (rate := getattr(config, name)) is not None]
        return NonFiniteLossError(
            f"{what}. Try a lower learning rate ({', '.join(given)}), more warm-up (warmup_steps is "
            f"{config.warmup_steps}), clipping (clip_norm is {config.clip_norm:g}) or "
            'precision = "float32". '
            + ("There is no checkpoint" if location is None else f"The last good checkpoint is {location}")
        )
