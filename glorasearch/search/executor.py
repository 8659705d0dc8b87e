"""Where candidates are evaluated: the interface that the driver speaks to, and the executor of this very process."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import deque
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from glorasearch.errors import RunError
from glorasearch.space import Evaluate, EvaluationResult, EvaluationTask, evaluate_safely

_log = logging.getLogger(__name__)


class Executor(ABC):
    """Evaluates tasks, in any order and anywhere; a context manager that closes itself.

    For every submitted task exactly one result is returned. An evaluation that raises an exception is a result with its
    `error` set; the traceback of the first one that was no `EvaluationError` goes to the log. Whether too many fail is
    judged by the driver. An executor belongs to one thread.
    """

    _traced = False
    """Whether a traceback has been logged."""

    @property
    def status(self) -> str:
        """What is worth telling of the workers at this moment, such as `7 of 8 workers`; empty if nothing is."""
        return ""

    def _noted(self, result: EvaluationResult) -> EvaluationResult:
        """The result, its traceback logged if it is the first that has one."""
        if result.trace is not None and not self._traced:
            self._traced = True
            _log.warning(
                "subnet %s could not be evaluated (%s). Others that fail so are recorded as failed trials without a "
                "traceback; this one's:\n%s",
                result.subnet_digest[:12],
                result.error,
                result.trace.rstrip(),
            )
        return result

    @property
    @abstractmethod
    def capacity(self) -> int:
        """How many tasks are worth having under way at once, at least 1; more may be submitted and wait."""

    @property
    def in_order(self) -> bool:
        """Whether tasks are evaluated one after the other as they were submitted, so that one waits for no other."""
        return False

    @abstractmethod
    def submit(self, task: EvaluationTask) -> None:
        """Take a task over; returns at once."""

    @abstractmethod
    def next_result(self) -> EvaluationResult:
        """The result of any task that was submitted and not yet answered; blocks until there is one.

        Raises:
            RunError: if no task is under way, or the executor cannot go on.
        """

    @abstractmethod
    def close(self) -> None:
        """Release what the executor holds; unanswered tasks are dropped. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@runtime_checkable
class StartsAhead(Protocol):
    """An evaluator whose device computes while this process does other things."""

    @property
    def ahead(self) -> bool:
        """Whether that is so here."""

    def prepare(self, task: EvaluationTask) -> None:
        """Do what can be done for a task without the device."""

    def start(self, task: EvaluationTask) -> None:
        """Have the device begin with a prepared task; returns at once."""


class InProcessExecutor(Executor):
    """Evaluates in this process, one task after the other, when its result is asked for.

    With an evaluator that starts ahead, the device begins with the next task before a result is handed out, so that it
    is busy while the driver samples and stores.
    """

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate
        self._ahead = evaluate if isinstance(evaluate, StartsAhead) and evaluate.ahead else None
        self._waiting: deque[EvaluationTask] = deque()

    @property
    def capacity(self) -> int:
        """One task at a time, and one more that waits where it can be started ahead."""
        return 1 if self._ahead is None else 2

    @property
    def in_order(self) -> bool:
        """One after the other."""
        return True

    def submit(self, task: EvaluationTask) -> None:
        """Take a task over."""
        self._waiting.append(task)
        if self._ahead is not None:
            self._ahead.prepare(task)

    def next_result(self) -> EvaluationResult:
        """Evaluate the task that has waited longest."""
        if not self._waiting:
            raise RunError("no result to wait for: every submitted task has been answered")
        result = evaluate_safely(self._evaluate, self._waiting.popleft())
        if self._ahead is not None and self._waiting:
            self._ahead.start(self._waiting[0])
        return self._noted(result)

    def close(self) -> None:
        """Drop the tasks that still wait."""
        self._waiting.clear()
