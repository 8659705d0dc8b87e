"""What makes one candidate better than another."""

from __future__ import annotations

from typing import Final, Literal

from optuna.study import StudyDirection

from glorasearch.search.record import TrialRecord

Fitness = Literal["accuracy", "cross_entropy"]
FITNESSES: Final[tuple[Fitness, ...]] = ("accuracy", "cross_entropy")

Rank = tuple[float, float, int]
"""Sorts trials, the best first: fitness, tie-break, trial number."""


def direction(fitness: Fitness) -> StudyDirection:
    """The direction in which an Optuna study improves."""
    return StudyDirection.MAXIMIZE if fitness == "accuracy" else StudyDirection.MINIMIZE


def value(fitness: Fitness, record: TrialRecord) -> float:
    """The objective value of a trial; of a capped one its bound, the best that the value could have been."""
    if record.bound is not None:
        return record.bound
    return record.accuracy if fitness == "accuracy" else record.cross_entropy


def rank(fitness: Fitness, record: TrialRecord) -> Rank:
    """The sorting key of a completed trial; capped ones are ranked by nobody.

    Accuracy: more is better, ties go to the lower mean cross-entropy. Cross-entropy: less is better, ties go to the
    higher accuracy. What is left goes to the earlier trial.
    """
    if fitness == "accuracy":
        return -record.accuracy, record.cross_entropy, record.number
    return record.cross_entropy, -record.accuracy, record.number
