"""From logits to scores whose sums do not depend on the order of the images."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from glorasearch.space.early_stopping import UNIT


class Scores(NamedTuple):
    """What is known of some images."""

    correct: int
    nats: float
    """Sum of their cross-entropies, exact as `glorasearch.space.early_stopping` says; nan or inf if one of them is."""

    @property
    def finite(self) -> bool:
        """Whether all cross-entropies are numbers."""
        return math.isfinite(self.nats)


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """`(n,)` float64, in units of 2⁻³⁰ nats and whole, of logits `(n, classes)` and labels `(n,)`."""
    return F.cross_entropy(logits.double(), labels, reduction="none").div_(UNIT).round_()


class PendingScores:
    """Scores that the device is asked for; they travel while more work is queued behind them."""

    def __init__(self, logits: Tensor, labels: Tensor) -> None:
        """Of `(n, classes)` logits and `(n,)` labels; does not wait."""
        found = torch.stack([logits.argmax(-1) == labels, cross_entropies(logits, labels)]).sum(1)
        self._arrived: torch.cuda.Event | None = None
        if found.is_cuda:
            self._found = torch.empty(2, dtype=torch.float64, pin_memory=True)
            self._found.copy_(found, non_blocking=True)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()
        else:
            self._found = found

    def wait(self) -> Scores:
        """The scores, once they are there; what was queued after them is not waited for."""
        if self._arrived is not None:
            self._arrived.synchronize()
        correct, units = self._found.tolist()
        return Scores(int(correct), units * UNIT)
