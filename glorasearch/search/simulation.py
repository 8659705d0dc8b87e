"""An executor with simulated workers and a simulated clock: how well a search would use a cluster."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from numpy.random import SeedSequence, default_rng

from glorasearch.errors import RunError
from glorasearch.search.executor import Executor
from glorasearch.space import Evaluate, EvaluationResult, EvaluationTask, evaluate_safely

QUEUED_PER_WORKER: Final = 2
"""One task is evaluated while the next one is already queued at the worker, as with Ray workers."""


@dataclass(frozen=True, slots=True)
class LogNormalSeconds:
    """How long the evaluation of a subnet takes: log-normal over the subnets, fixed for each of them."""

    median: float = 20.0
    """Seconds."""
    sigma: float = 0.5
    """Standard deviation of the natural logarithm; at 0.5, one in 100 takes more than 3.2 times the median."""
    seed: int = 0

    def __call__(self, task: EvaluationTask) -> float:
        """Seconds of a task that is evaluated to the end."""
        rng = default_rng(SeedSequence((self.seed, int(task.subnet_digest[:16], 16))))
        return self.median * float(rng.lognormal(sigma=self.sigma))


@dataclass(slots=True, eq=False)
class _Worker:
    began: float = 0.0
    """When its current evaluation began."""
    waiting: EvaluationTask | None = None
    """What it evaluates next."""


class SimulatedExecutor(Executor):
    """Evaluates in this process, and answers in the order and at the times at which `workers` workers would have.

    Each worker evaluates one task and has another one queued; an idle worker takes the task queued at the worker that
    has been busy longest. Workers never die, and dispatching takes no time. The clock advances to the next completion
    when a result is asked for; the driver's own work takes no simulated time.

    Args:
        evaluate: gives the result of a task.
        workers: how many.
        seconds: how long an evaluation takes to its end; one that stops early takes its images' share of that.
    """

    def __init__(
        self,
        evaluate: Evaluate,
        workers: int,
        seconds: Callable[[EvaluationTask], float],
    ) -> None:
        self._evaluate = evaluate
        self._seconds = seconds
        self._workers = [_Worker() for _ in range(workers)]
        self._idle = deque(self._workers)
        self._single: dict[_Worker, None] = {}
        """Busy workers without a queued task, in the order in which they became so."""
        self._double: dict[_Worker, None] = {}
        """Busy workers with a queued task."""
        self._waiting: deque[EvaluationTask] = deque()
        self._order = itertools.count()
        self._ends: list[tuple[float, int, _Worker, EvaluationResult]] = []
        self._busy = 0.0
        self.clock = 0.0
        """Seconds since the start, simulated."""

    @property
    def capacity(self) -> int:
        """Two tasks for each worker."""
        return QUEUED_PER_WORKER * len(self._workers)

    @property
    def utilisation(self) -> float:
        """Share of the time so far that workers spent on evaluations, mean over the workers; 0 at the start."""
        ahead = sum(end - self.clock for end, *_ in self._ends)
        return (self._busy - ahead) / (len(self._workers) * self.clock) if self.clock else 0.0

    def submit(self, task: EvaluationTask) -> None:
        """Give a task to the least busy worker; it waits here while all of them have two."""
        self._waiting.append(task)
        self._hand_out()

    def next_result(self) -> EvaluationResult:
        """The result of the evaluation that ends next.

        Raises:
            RunError: if no task is under way.
        """
        if not self._ends:
            raise RunError("no result to wait for: every submitted task has been answered")
        self.clock, _, worker, result = heapq.heappop(self._ends)
        task, worker.waiting = worker.waiting, None
        self._single.pop(worker, None)
        self._double.pop(worker, None)
        if task is None:
            self._idle.append(worker)
        else:
            self._begin(worker, task)
        self._hand_out()
        return self._logged(result)

    def close(self) -> None:
        """Drop the tasks under way."""
        self._ends.clear()
        self._waiting.clear()

    def _hand_out(self) -> None:
        while self._waiting and (self._idle or self._single):
            if self._idle:
                self._begin(self._idle.popleft(), self._waiting.popleft())
            else:
                worker = next(iter(self._single))
                del self._single[worker]
                self._double[worker] = None
                worker.waiting = self._waiting.popleft()
        while self._idle and self._double:
            victim = min(self._double, key=lambda worker: worker.began)
            del self._double[victim]
            self._single[victim] = None
            task, victim.waiting = victim.waiting, None
            if task is not None:
                self._begin(self._idle.popleft(), task)

    def _begin(self, worker: _Worker, task: EvaluationTask) -> None:
        result = evaluate_safely(self._evaluate, task)
        score = result.score
        seconds = self._seconds(task) * (score.seen / score.total if score is not None and score.stopped_early else 1.0)
        self._busy += seconds
        worker.began = self.clock
        self._single[worker] = None
        heapq.heappush(self._ends, (self.clock + seconds, next(self._order), worker, result))
