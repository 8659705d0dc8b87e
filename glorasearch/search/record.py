"""What is known of one finished trial, and how it is written into the trial's user attributes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from glorasearch.db import Evaluation
from glorasearch.space import EvaluationResult

SUBNET: Final = "subnet"
"""User attribute: digest of the trial's subnet; a trial that lacks it has not been sampled yet."""
PARAMETERS: Final = "parameters"
"""User attribute: trainable parameters, the head excluded."""
REASON: Final = "reason"
"""User attribute: why the evaluation failed."""


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """The scores of one trial on the search split."""

    number: int
    """The trial's number in its study, from 0."""
    subnet_digest: str
    parameters: int
    """Trainable parameters, the head excluded."""
    correct: int
    """Images classified correctly."""
    total: int
    """Images of the search split."""
    cross_entropy: float
    """Mean over the search split, nats."""
    seconds: float
    """Wall-clock seconds of the evaluation; 0 if the scores were reused."""
    reused_from: int | None = None
    """The trial that evaluated the same subnet before, if this one did not."""

    @property
    def accuracy(self) -> float:
        """Share of correct images, between 0 and 1."""
        return self.correct / self.total

    def to_attrs(self) -> dict[str, Any]:
        """The user attributes that a finished trial gains."""
        attrs: dict[str, Any] = {
            "origin": "evaluated" if self.reused_from is None else "reused",
            "accuracy": self.accuracy,
            "correct": self.correct,
            "total": self.total,
            "cross_entropy": self.cross_entropy,
            "seconds": self.seconds,
        }
        return attrs if self.reused_from is None else attrs | {"reused_from": self.reused_from}

    @classmethod
    def from_evaluation(cls, number: int, evaluation: Evaluation) -> Self:
        """The record of a trial that was evaluated."""
        return cls(
            number=number,
            subnet_digest=evaluation.subnet_digest,
            parameters=evaluation.parameters,
            correct=evaluation.correct,
            total=evaluation.total,
            cross_entropy=evaluation.cross_entropy,
            seconds=evaluation.seconds,
        )

    @classmethod
    def from_attrs(cls, number: int, attrs: Mapping[str, Any]) -> Self:
        """The inverse of `to_attrs`, for a completed trial."""
        return cls(
            number=number,
            subnet_digest=attrs[SUBNET],
            parameters=attrs[PARAMETERS],
            correct=attrs["correct"],
            total=attrs["total"],
            cross_entropy=attrs["cross_entropy"],
            seconds=attrs["seconds"],
            reused_from=attrs.get("reused_from"),
        )


def failure_of(result: EvaluationResult) -> str | None:
    """Why a result cannot be used as scores; None if it can."""
    if result.error is not None:
        return result.error
    if result.total <= 0:
        return "the evaluation saw no images"
    if not math.isfinite(result.cross_entropy):
        return f"the mean cross-entropy is {result.cross_entropy}"
    return None
