"""What the control plane and the data plane exchange: plain, picklable values."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from glorasearch.errors import EvaluationError, lacks_memory
from glorasearch.interrupts import is_interrupt
from glorasearch.redact import redact
from glorasearch.space.early_stopping import StopThreshold
from glorasearch.space.score import Fitness, Score

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
    """The evaluation may stop once the candidate is certain to be worse than this; None to score all images."""
    metrics: tuple[Fitness, ...] = ()
    """Of `CLASS_METRICS` those that the score is to have."""


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """A score, or why there is none. Evaluations are pure functions of their task, so they may be repeated."""

    subnet_digest: str
    score: Score | None = None
    error: str | None = None
    """Why the evaluation failed."""
    trace: str | None = None
    """Traceback, for the log, of an unexpected exception; its type and message are the `error`."""
    out_of_memory: bool = False
    """Whether it failed for want of memory, so that another worker may succeed."""

    @classmethod
    def of_error(
        cls, task: EvaluationTask, error: BaseException, why: str, trace: str | None = None
    ) -> EvaluationResult:
        """The result of a task whose evaluation raised an exception; `why` is how it is told."""
        return cls(task.subnet_digest, error=why, trace=trace, out_of_memory=lacks_memory(error))

    @property
    def failure(self) -> str | None:
        """Why there is no usable score; None if there is one."""
        if self.error is not None:
            return self.error
        if self.score is None or self.score.total <= 0:
            return "the evaluation saw no images"
        if not math.isfinite(self.score.cross_entropy):
            what = "cross-entropy" if self.score.right_or_wrong else "squared error"
            return f"the mean {what} is {self.score.cross_entropy}"
        return None


Evaluate = Callable[[EvaluationTask], EvaluationResult]
"""A pure function of its task; raises `EvaluationError` if this candidate cannot be evaluated."""


def evaluate_safely(evaluate: Evaluate, task: EvaluationTask) -> EvaluationResult:
    """The result of a task; an exception becomes a result that carries it.

    Whether one candidate or all of them are at fault shows in how many fail, not in one exception, so no exception
    stops a search by itself. Only a wish to stop (Ctrl+C) is let through; a `SystemExit` of a plugin is none.
    """
    try:
        return evaluate(task)
    except EvaluationError as error:
        return EvaluationResult.of_error(task, error, str(error) or type(error).__name__)
    except BaseException as error:
        if is_interrupt(error):
            raise
        return EvaluationResult.of_error(task, error, _reason(error), trace=redact(traceback.format_exc()))


def _reason(error: BaseException) -> str:
    """Type and message of an exception on one line of at most 500 characters."""
    message = redact(" ".join(str(error).split()))
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return text if len(text) <= _REASON_LENGTH else f"{text[: _REASON_LENGTH - 3]}..."
