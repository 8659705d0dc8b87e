"""What is known of one finished trial, and how it is written into the trial's user attributes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from optuna.trial import FrozenTrial, TrialState

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
    """Images classified correctly, among those seen."""
    total: int
    """Images of the search split."""
    cross_entropy: float
    """Mean over the images seen, nats."""
    seconds: float
    """Wall-clock seconds of the evaluation; 0 if the scores were reused."""
    reused_from: int | None = None
    """The trial that evaluated the same subnet before, if this one did not."""
    bound: float | None = None
    """Of a capped trial: the best fitness that it could still have reached."""
    stopped_after: int | None = None
    """Of a capped trial: the images that were seen."""

    @property
    def accuracy(self) -> float:
        """Share of correct images among those seen, between 0 and 1."""
        return self.correct / self.seen

    @property
    def stopped_early(self) -> bool:
        """Whether the evaluation stopped early, since the trial was certain to be no parent and not the winner."""
        return self.bound is not None

    @property
    def seen(self) -> int:
        """Images that the scores speak of: all, unless the trial was capped."""
        return self.total if self.stopped_after is None else self.stopped_after

    def to_attrs(self) -> dict[str, Any]:
        """The user attributes that a finished trial gains.

        Those of a capped one have no `accuracy` and no `cross_entropy`, which would be of its hardest images: what they
        are so far is under `seen_accuracy` and `seen_cross_entropy`.
        """
        prefix = "seen_" if self.stopped_early else ""
        attrs: dict[str, Any] = {
            "origin": "evaluated" if self.reused_from is None else "reused",
            f"{prefix}accuracy": self.accuracy,
            "correct": self.correct,
            "total": self.total,
            f"{prefix}cross_entropy": self.cross_entropy,
            "seconds": self.seconds,
        }
        if self.stopped_early:
            attrs |= {"bound": self.bound, "seen": self.seen}
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
            bound=evaluation.bound,
            stopped_after=evaluation.stopped_after,
        )

    @classmethod
    def from_attrs(cls, number: int, attrs: Mapping[str, Any]) -> Self:
        """The inverse of `to_attrs`, for a trial that was completed or capped."""
        prefix = "seen_" if "bound" in attrs else ""
        return cls(
            number=number,
            subnet_digest=attrs[SUBNET],
            parameters=attrs[PARAMETERS],
            correct=attrs["correct"],
            total=attrs["total"],
            cross_entropy=attrs[f"{prefix}cross_entropy"],
            seconds=attrs["seconds"],
            reused_from=attrs.get("reused_from"),
            bound=attrs.get("bound"),
            stopped_after=attrs.get("seen"),
        )


def is_stopped_early(trial: FrozenTrial) -> bool:
    """Whether a stored trial was capped."""
    return trial.state == TrialState.PRUNED and "bound" in trial.user_attrs


def failure_of(result: EvaluationResult) -> str | None:
    """Why a result cannot be used as scores; None if it can."""
    if result.error is not None:
        return result.error
    if result.total <= 0:
        return "the evaluation saw no images"
    if not math.isfinite(result.cross_entropy):
        return f"the mean cross-entropy is {result.cross_entropy}"
    return None
