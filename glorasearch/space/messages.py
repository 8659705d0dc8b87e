"""What the control plane and the data plane say to each other: plain, picklable, JSON-ready values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from glorasearch.errors import EvaluationError
from glorasearch.space.cap import Cap


@dataclass(frozen=True, slots=True)
class EvaluationTask:
    """One subnet to be evaluated with one set of weights on the search split."""

    subnet_json: str
    """`Subnet.to_json()`."""
    subnet_digest: str
    weights_digest: str
    """The weights in the weight store that the candidate inherits."""
    cap: Cap | None = None
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

    @property
    def capped(self) -> bool:
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
    """The result of a task, an `EvaluationError` turned into a result that carries it."""
    try:
        return evaluate(task)
    except EvaluationError as error:
        return EvaluationResult(task.subnet_digest, error=str(error) or type(error).__name__)
