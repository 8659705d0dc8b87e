"""Scores out of fold: a model's sums over images that it was not trained on, and what they say of a candidate.

The sums of all folds add up to scores over all images, though each fold has a model of its own. One temperature is
fitted for a candidate, not for a model, and from sums: for each inverse temperature beta of a fixed grid

    sum_i [logsumexp(beta z_i) - beta z_i,y_i],

or with several labels an image the same sum of the means of its binary cross-entropies. Counts by class add up, too. An
area under the curve does not: outputs of different models have no common scale, so it is the mean over the folds, each
weighted by its images. Numbers have the sum of their squared errors alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from glorasearch.race.config import OF_CLASSES, Judge
from glorasearch.space import ClassCounts


@dataclass(frozen=True, slots=True)
class FoldScore:
    """What one model makes of the images of its fold."""

    images: int
    correct: int
    """0 if the training diverged."""
    nats: tuple[float, ...] | None
    """Sum of the cross-entropies at every inverse temperature of the grid, of numbers that of their squared errors;
    None if the training diverged."""
    classes: tuple[tuple[int, ...], ...] | None = None
    """Images by label, by the class that they are taken for, and those that are right, by label: `(3, classes)`, if a
    metric that takes classes alike judges."""
    auc: float | None = None
    """Area under the ROC curve, if that judges; None, too, if the fold has one label."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The score of a candidate over some folds."""

    folds: int
    images: int
    correct: int
    tempered: float | None
    """Mean cross-entropy at the best temperature, nats; None if a training diverged, and of numbers."""
    beta: float | None
    """The inverse of that temperature."""
    judged: float | None = None
    """What judges, if that is neither of them; None if a training diverged."""
    right_or_wrong: bool = True

    @property
    def accuracy(self) -> float | None:
        """Share of correct images; None of numbers."""
        if not self.right_or_wrong:
            return None
        return self.correct / self.images if self.images else 0.0


def standing(scores: Iterable[FoldScore], betas: Sequence[float], judge: Judge = "accuracy") -> Standing:
    """The score over several folds.

    Args:
        scores: of a candidate's models.
        betas: the grid of inverse temperatures.
        judge: of the race.
    """
    seen, numbers = list(scores), judge == "squared_error"
    images, correct = sum(score.images for score in seen), sum(score.correct for score in seen)
    sums = [score.nats for score in seen]
    if not images or any(nats is None for nats in sums):
        return Standing(len(seen), images, correct, None, None, None, not numbers)
    totals = [math.fsum(each) for each in zip(*(nats for nats in sums if nats is not None), strict=True)]
    best = min(range(len(totals)), key=totals.__getitem__)
    if numbers:
        return Standing(len(seen), images, correct, None, None, totals[best] / images, right_or_wrong=False)
    judged = _judged(seen, judge) if judge in OF_CLASSES else None
    return Standing(len(seen), images, correct, totals[best] / images, betas[best], judged)


def _judged(scores: Sequence[FoldScore], judge: Judge) -> float:
    """A metric that takes classes alike; 0 if nothing tells."""
    if judge == "auc":
        known = [(score.images, score.auc) for score in scores if score.auc is not None]
        images = sum(count for count, _ in known)
        return math.fsum(count * area for count, area in known) / images if images else 0.0
    tables = [score.classes for score in scores if score.classes is not None]
    labelled, predicted, correct = (tuple(map(sum, zip(*rows, strict=True))) for rows in zip(*tables, strict=True))
    found: float = getattr(ClassCounts(labelled, labelled, predicted, correct), judge)
    return found
