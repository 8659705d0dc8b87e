"""What runs in a worker process: one evaluator, built once, warm between tasks."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glorasearch.space import Evaluate, EvaluationResult, EvaluationTask, evaluate_safely
from workers.factory import build_evaluator


@dataclass(frozen=True, slots=True)
class Crash:
    """An exception that is no fault of the candidate, as text: it need not be importable where it is read."""

    summary: str
    """Type and message, on one line."""
    trace: str

    @classmethod
    def of(cls, error: BaseException) -> Crash:
        """The text of an exception."""
        return cls("".join(traceback.format_exception_only(error)).strip(), traceback.format_exc().strip())


class EvaluatorActor:
    """Builds its evaluator when it is told to, and answers with values, never with exceptions.

    The exceptions that reach the executor are then Ray's own, and they mean one thing: the process is gone.
    """

    def __init__(self, factory: str, spec: Mapping[str, Any]) -> None:
        self._factory = factory
        self._spec = spec
        self._evaluate: Evaluate | None = None

    def build(self) -> Crash | None:
        """Build the evaluator; why it cannot be built, if so."""
        try:
            self._evaluate = build_evaluator(self._factory, self._spec)
        except Exception as error:
            return Crash.of(error)
        return None

    def evaluate(self, task: EvaluationTask) -> EvaluationResult | Crash:
        """Evaluate one candidate."""
        try:
            if self._evaluate is None:
                raise RuntimeError("the evaluator has not been built")
            return evaluate_safely(self._evaluate, task)
        except Exception as error:
            return Crash.of(error)
