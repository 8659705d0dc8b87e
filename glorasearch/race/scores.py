"""Scores out of fold: a model's sums over images that it was not trained on, and what they say of a candidate.

The sums of all folds add up to scores over all images, though each fold has a model of its own. One temperature is
fitted for a candidate, not for a model, and from sums: for each inverse temperature beta of a fixed grid

    sum_i [logsumexp(beta z_i) - beta z_i,y_i],

or with several labels an image the same sum of the means of its binary cross-entropies.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FoldScore:
    """What one model makes of the images of its fold."""

    images: int
    correct: int
    """0 if the training diverged."""
    nats: tuple[float, ...] | None
    """Sum of the cross-entropies at every inverse temperature of the grid; None if the training diverged."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The score of a candidate over some folds."""

    folds: int
    images: int
    correct: int
    tempered: float | None
    """Mean cross-entropy at the best temperature, nats; None if a training diverged."""
    beta: float | None
    """The inverse of that temperature."""

    @property
    def accuracy(self) -> float:
        """Share of correct images."""
        return self.correct / self.images if self.images else 0.0


def standing(scores: Iterable[FoldScore], betas: Sequence[float]) -> Standing:
    """The score over several folds.

    Args:
        scores: of a candidate's models.
        betas: the grid of inverse temperatures.
    """
    seen = list(scores)
    images, correct = sum(score.images for score in seen), sum(score.correct for score in seen)
    sums = [score.nats for score in seen]
    if not images or any(nats is None for nats in sums):
        return Standing(len(seen), images, correct, None, None)
    totals = [math.fsum(each) for each in zip(*(nats for nats in sums if nats is not None), strict=True)]
    best = min(range(len(totals)), key=totals.__getitem__)
    return Standing(len(seen), images, correct, totals[best] / images, betas[best])
