"""Where candidates are evaluated: the interface that the driver uses, and the executor of this process."""

from __future__ import annotations

import logging
import os
import socket
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from glorasearch.errors import RunError
from glorasearch.search.staff import WorkerStatus
from glorasearch.space import Evaluate, EvaluationResult, EvaluationTask, evaluate_safely

_log = logging.getLogger(__name__)


class Executor(ABC):
    """Evaluates tasks, in any order and anywhere; a context manager that closes itself.

    Every submitted task is answered by exactly one result. If an evaluation raises an exception, its result has `error`
    set; the traceback of the first unexpected one (not an `EvaluationError`) goes to the log. Whether too many fail is
    for the driver to judge. Not thread-safe.
    """

    _trace_logged = False

    @property
    def status(self) -> str:
        """What a user may want to know of the workers now, such as `7 of 8 workers`; usually empty."""
        return ""

    @property
    def staff(self) -> Sequence[WorkerStatus]:
        """The workers, and what each has done."""
        return ()

    def _logged(self, result: EvaluationResult) -> EvaluationResult:
        """The result; logs its traceback if it is the first one that has any."""
        if result.trace is not None and not self._trace_logged:
            self._trace_logged = True
            _log.warning(
                "subnet %s could not be evaluated (%s). Others are recorded as failed trials without a traceback; this "
                "one's:\n%s",
                result.subnet_digest[:12],
                result.error,
                result.trace.rstrip(),
            )
        return result

    @property
    @abstractmethod
    def capacity(self) -> int:
        """How many tasks should be under way at once, at least 1; further ones may be submitted and wait."""

    @property
    def in_order(self) -> bool:
        """Whether tasks are evaluated one after the other in the order of submission."""
        return False

    @abstractmethod
    def submit(self, task: EvaluationTask) -> None:
        """Accept a task; returns at once."""

    @abstractmethod
    def next_result(self) -> EvaluationResult:
        """The result of any submitted task that has not been answered yet; blocks until there is one.

        Raises:
            RunError: if no task is under way, or the executor cannot continue.
        """

    @abstractmethod
    def close(self) -> None:
        """Release all resources; unanswered tasks are dropped. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@runtime_checkable
class StartsAhead(Protocol):
    """An evaluator whose device can compute while this process does something else."""

    @property
    def ahead(self) -> bool:
        """Whether this one's can."""

    def prepare(self, task: EvaluationTask) -> None:
        """Do the part of a task that does not need the device."""

    def start(self, task: EvaluationTask) -> None:
        """Start a prepared task on the device; returns at once."""


class InProcessExecutor(Executor):
    """Evaluates in this process, one task after the other, when its result is asked for.

    If the evaluator can start ahead, the device begins the next task before a result is returned, so that it is busy
    while the driver samples and stores.
    """

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate
        self._ahead = evaluate if isinstance(evaluate, StartsAhead) and evaluate.ahead else None
        self._waiting: deque[EvaluationTask] = deque()
        self._status = WorkerStatus(0, host=socket.gethostname(), process=os.getpid(), ready=True)

    @property
    def staff(self) -> Sequence[WorkerStatus]:
        """This process."""
        return (self._status,)

    @property
    def capacity(self) -> int:
        """One task, and one more if it can be started ahead."""
        return 1 if self._ahead is None else 2

    @property
    def in_order(self) -> bool:
        """Always."""
        return True

    def submit(self, task: EvaluationTask) -> None:
        """Accept a task."""
        self._waiting.append(task)
        if self._ahead is not None:
            self._ahead.prepare(task)

    def next_result(self) -> EvaluationResult:
        """Evaluate the task that was submitted first."""
        if not self._waiting:
            raise RunError("no result to wait for: every submitted task has been answered")
        result = evaluate_safely(self._evaluate, self._waiting.popleft())
        self._status.answered(result)
        if self._ahead is not None and self._waiting:
            self._ahead.start(self._waiting[0])
        return self._logged(result)

    def close(self) -> None:
        """Drop the waiting tasks."""
        self._waiting.clear()
