"""What the control plane and the data plane say to each other: plain, picklable, JSON-ready values."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from glorasearch.errors import EvaluationError
from glorasearch.space.early_stopping import StopThreshold

_REASON_LENGTH: Final = 500


@dataclass(frozen=True, slots=True)
class EvaluationTask:
    """One subnet to be evaluated with one set of weights on the search split."""

    subnet_json: str
    """`Subnet.to_json()`."""
    subnet_digest: str
    weights_digest: str
    """The weights in the weight store that the candidate inherits."""
    threshold: StopThreshold | None = None
    """The evaluation may stop when the candidate is certain to be worse than this; None to see all images."""


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """What an evaluation found. An evaluation is a pure function of its task, so it may be repeated or thrown away.

    Of a capped candidate, `correct` and `cross_entropy` speak of the images that were seen, not of the split.
    """

    subnet_digest: str
    correct: int = 0
    """Images of the search split that were classified correctly."""
    total: int = 0
    """Images of the search split."""
    cross_entropy: float = float("nan")
    """Mean cross-entropy over the search split, nats."""
    seconds: float = 0.0
    """Wall-clock seconds of the evaluation."""
    error: str | None = None
    """Why the evaluation failed; the other fields mean nothing then."""
    bound: float | None = None
    """Of a capped candidate: the best fitness that it could still have reached, which is worse than the task's cap."""
    stopped_after: int | None = None
    """Of a capped candidate: the images that were seen."""
    trace: str | None = None
    """Traceback, for the log, of an exception that nobody foresaw; its type and message are the `error`."""

    @property
    def stopped_early(self) -> bool:
        """Whether the evaluation stopped at the task's cap."""
        return self.bound is not None

    @property
    def seen(self) -> int:
        """Images that were seen."""
        return self.total if self.stopped_after is None else self.stopped_after

    @property
    def accuracy(self) -> float:
        """Share of correct images among those seen, between 0 and 1."""
        return self.correct / self.seen if self.seen else float("nan")


Evaluate = Callable[[EvaluationTask], EvaluationResult]
"""A pure function of its task; raises `EvaluationError` if this candidate cannot be evaluated."""


def evaluate_safely(evaluate: Evaluate, task: EvaluationTask) -> EvaluationResult:
    """The result of a task; an exception is turned into a result that carries it.

    Whether a fault lies with one candidate or with all of them is seen by how many fail, not by one exception, so none
    of them stops a search by itself. What is no `Exception` (`KeyboardInterrupt`) passes.
    """
    try:
        return evaluate(task)
    except EvaluationError as error:
        return EvaluationResult(task.subnet_digest, error=str(error) or type(error).__name__)
    except Exception as error:
        return EvaluationResult(task.subnet_digest, error=_reason(error), trace=traceback.format_exc())


def _reason(error: Exception) -> str:
    """Type and message of an exception on one line of at most 500 characters."""
    message = " ".join(str(error).split())
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return text if len(text) <= _REASON_LENGTH else f"{text[: _REASON_LENGTH - 3]}..."
