"""The actors of an executor: placed, built, given tasks, replaced when they die; and what each of them holds."""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import ray

from glorasearch.errors import RunError
from glorasearch.space import EvaluationTask
from workers.actor import CONTROL, Crash, EvaluatorActor, Home

logger = logging.getLogger(__name__)

QUEUED_PER_WORKER: Final = 2
"""One task is evaluated while the next one already waits at the worker."""
BUILDS: Final = 3
"""Builds in a row that may fail before a worker is given up."""


@dataclass(slots=True, eq=False)
class Attempt:
    """A task until it is answered."""

    task: EvaluationTask
    losses: int = 0
    """How often its worker died while evaluating it."""
    timeouts: int = 0
    """How often its evaluation took too long."""
    answered: bool = False


@dataclass(slots=True, eq=False)
class Handed:
    """An attempt in the queue of one actor."""

    reference: Any
    attempt: Attempt
    ticket: int
    withdrawn: bool = False
    """Given to another worker: what comes of it here counts only if it comes first."""

    @property
    def open(self) -> bool:
        """Whether this worker is the one that the attempt waits for."""
        return not self.withdrawn and not self.attempt.answered


@dataclass(slots=True, eq=False)
class Worker:
    """One place for an actor; when the actor dies, another one takes the place."""

    number: int
    actor: Any
    building: Any
    """Reference of the build under way; None once the evaluator is there."""
    home: Home | None = None
    failed_builds: int = 0
    queue: deque[Handed] = field(default_factory=deque)
    """In the order in which the actor takes them."""
    began: float = 0.0
    """When the first of the queue can have begun at the latest; seconds of this process's monotonic clock."""

    @property
    def reference(self) -> Any:
        """What the actor answers next, if it has anything to do."""
        if self.building is not None:
            return self.building
        return self.queue[0].reference if self.queue else None

    @property
    def ready(self) -> bool:
        """Whether it takes tasks; an actor that waits for its place in the cluster holds none."""
        return self.building is None

    def __str__(self) -> str:
        return f"worker {self.number}" + ("" if self.home is None else f" ({self.home})")


class WorkerPool:
    """Keeps a number of actors alive and knows what each of them holds.

    Args:
        factory, spec: as in `RayExecutor`.
        workers: number of places for actors.
        gpus_per_worker: GPUs of each actor; may be a fraction.
    """

    def __init__(self, factory: str, spec: Mapping[str, Any], workers: int, gpus_per_worker: float) -> None:
        self._factory, self._spec = factory, dict(spec)
        options: dict[str, Any] = {
            "num_cpus": 1,
            "num_gpus": gpus_per_worker,
            "max_restarts": 0,
            "max_task_retries": 0,
            "concurrency_groups": {CONTROL: 1},
        }
        remote = ray.remote(**options)
        self._actor_class = remote(EvaluatorActor)
        self._tickets = itertools.count()
        self._ever_ready = False
        self.workers: list[Worker] = []
        for number in range(workers):
            actor = self._actor()
            self.workers.append(Worker(number, actor, actor.build.remote()))

    def __len__(self) -> int:
        return len(self.workers)

    @property
    def ready(self) -> list[Worker]:
        """The workers that take tasks."""
        return [worker for worker in self.workers if worker.ready]

    @property
    def busy(self) -> bool:
        """Whether some worker holds a task that is waited for."""
        return any(handed.open for worker in self.workers for handed in worker.queue)

    def hand(self, attempt: Attempt, worker: Worker) -> None:
        """Give a worker a task."""
        ticket = next(self._tickets)
        if not worker.queue:
            worker.began = time.monotonic()
        worker.queue.append(Handed(worker.actor.evaluate.remote(attempt.task, ticket), attempt, ticket))

    def pop(self, worker: Worker) -> Handed:
        """Take the task that a worker has answered out of its queue; the next one begins now at the latest."""
        worker.began = time.monotonic()
        return worker.queue.popleft()

    def steal(self, thief: Worker) -> bool:
        """Give an idle worker the task that has waited longest behind another; whether there was one."""
        victims = [w for w in self.workers if w.ready and len(w.queue) > 1 and w.queue[-1].open]
        if not victims:
            return False
        victim = min(victims, key=lambda worker: worker.began)
        stolen = victim.queue[-1]
        stolen.withdrawn = True
        victim.actor.withdraw.options(concurrency_group=CONTROL).remote(stolen.ticket)
        self.hand(stolen.attempt, thief)
        return True

    def built(self, worker: Worker, answer: Home | Crash) -> None:
        """Take in what came of a build.

        Raises:
            RunError: if the evaluator cannot be built, and never could.
        """
        if isinstance(answer, Crash):
            self.build_failed(worker, answer.summary, answer.trace)
            return
        worker.building, worker.home, worker.failed_builds = None, answer, 0
        self._ever_ready = True

    def build_failed(self, worker: Worker, why: str, trace: str = "") -> None:
        """Try a build again, or give the worker up. What could not be built from the start is the run's own fault; what
        could be, and now cannot on some node, is that node's.

        Raises:
            RunError: if no worker is left.
        """
        worker.failed_builds += 1
        crashed = bool(trace)
        if not self._ever_ready and (crashed or worker.failed_builds >= BUILDS):
            raise RunError(self._unbuildable(why, crashed) + (f"\nIn the worker:\n{trace}" if trace else ""))
        if worker.failed_builds < BUILDS:
            self._renew(worker)
            return
        self._kill(worker)
        self.workers.remove(worker)
        what = f"{worker} is given up after {BUILDS} failed builds in a row: {why}"
        if not self.workers:
            raise RunError(f"no worker is left; {what}")
        logger.warning("%s; %d workers go on", what, len(self.workers))

    def replace(self, worker: Worker, why: str) -> list[Attempt]:
        """Put a new actor in the place of one that is gone or hangs; returns the tasks that it held."""
        logger.warning("%s is replaced: %s", worker, why)
        held = [handed.attempt for handed in worker.queue if handed.open]
        worker.queue.clear()
        self._renew(worker)
        return held

    def close(self) -> None:
        """Stop all actors."""
        for worker in self.workers:
            self._kill(worker)
        self.workers = []

    def _unbuildable(self, why: str, crashed: bool) -> str:
        if crashed:
            return f"the evaluator of factory {self._factory} cannot be built: {why}"
        return (
            f"workers die while factory {self._factory} builds their evaluator ({BUILDS} times in a row): {why}. Look "
            "for a lack of memory, or use fewer workers"
        )

    def _renew(self, worker: Worker) -> None:
        self._kill(worker)  # it may be out of reach only; a second one must not run beside it
        worker.actor, worker.home = self._actor(), None
        worker.building = worker.actor.build.remote()

    def _actor(self) -> Any:
        return self._actor_class.remote(self._factory, self._spec)

    def _kill(self, worker: Worker) -> None:
        ray.kill(worker.actor)
