"""The actors of an executor: created, built, given tasks, replaced when they die; and which tasks each holds."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import ray

from glorasearch.errors import RunError
from glorasearch.search import WorkerStatus
from glorasearch.space import EvaluationTask
from workers.actor import CONTROL, Crash, EvaluatorActor, Location

logger = logging.getLogger(__name__)

QUEUED_PER_WORKER: Final = 2
"""One task is evaluated while the next one already waits at the worker."""
MAX_BUILDS: Final = 3
"""A worker is given up after this many builds in a row that raise an exception."""
MAX_BUILD_DEATHS: Final = 8
"""A worker is given up after this many builds in a row in which its process died: they take a minute at least."""
FIRST_REST_SECONDS: Final = 0.5
"""Between the first failed build and the next one; doubled after each further failure."""
LONGEST_REST_SECONDS: Final = 30.0


@dataclass(slots=True, eq=False)
class PendingTask:
    """A task until it is answered."""

    task: EvaluationTask
    deaths: int = 0
    """How often its worker died while evaluating it."""
    timeouts: int = 0
    """How often its evaluation took too long."""
    exhausted: int = 0
    """How often its worker had too little memory for it."""
    answered: bool = False


@dataclass(slots=True, eq=False)
class Assignment:
    """A pending task in the queue of one actor."""

    reference: Any
    pending: PendingTask
    ticket: int
    withdrawn: bool = False
    """Reassigned to another worker: a result from here counts only if it comes first."""

    @property
    def open(self) -> bool:
        """Whether the task still depends on this worker."""
        return not self.withdrawn and not self.pending.answered


@dataclass(slots=True, eq=False)
class Worker:
    """One slot for an actor; when the actor dies, another one takes its place."""

    number: int
    actor: Any
    building: Any
    """Reference of the build in progress; None once the evaluator is built."""
    location: Location | None = None
    last: Location | None = None
    """Where its latest actor that was built is, or was."""
    failed_builds: int = 0
    queue: deque[Assignment] = field(default_factory=deque)
    """In the order in which the actor takes them."""
    rests_until: float | None = None
    """When it is built again after a failed build; seconds of this process's monotonic clock."""
    began: float = 0.0
    """Latest possible start of the queue's first evaluation; seconds of this process's monotonic clock."""

    done: WorkerStatus = field(default_factory=lambda: WorkerStatus(0))
    """What this slot has done, by all its actors."""

    @property
    def status(self) -> WorkerStatus:
        """Where it is, and what it has done."""
        host, process = (
            "" if self.last is None else self.last.host,
            0 if self.location is None else self.location.process,
        )
        return replace(self.done, number=self.number, host=host, process=process, ready=self.ready)

    @property
    def reference(self) -> Any:
        """What the actor answers next; None if it is idle."""
        if self.building is not None:
            return self.building
        return self.queue[0].reference if self.queue else None

    @property
    def ready(self) -> bool:
        """Whether it takes tasks; an actor that waits for resources of the cluster, or for a build, does not."""
        return self.location is not None

    def __str__(self) -> str:
        return f"worker {self.number}" + ("" if self.location is None else f" ({self.location})")


class WorkerPool:
    """Keeps a number of actors alive and knows what each of them holds.

    Args:
        factory, spec: as in `RayExecutor`.
        workers: number of actors.
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
        self._given_up: list[Worker] = []
        for number in range(workers):
            actor = self._create_actor()
            self.workers.append(Worker(number, actor, actor.build.remote()))

    def __len__(self) -> int:
        return len(self.workers)

    @property
    def ready(self) -> list[Worker]:
        """The workers that take tasks."""
        return [worker for worker in self.workers if worker.ready]

    @property
    def staff(self) -> list[WorkerStatus]:
        """All workers by number, those that were given up among them."""
        return sorted((each.status for each in (*self.workers, *self._given_up)), key=lambda status: status.number)

    @property
    def busy(self) -> bool:
        """Whether any worker holds an open task."""
        return any(assignment.open for worker in self.workers for assignment in worker.queue)

    def assign(self, pending: PendingTask, worker: Worker) -> None:
        """Give a worker a task."""
        ticket = next(self._tickets)
        if not worker.queue:
            worker.began = time.monotonic()
        worker.queue.append(Assignment(worker.actor.evaluate.remote(pending.task, ticket), pending, ticket))

    def pop(self, worker: Worker) -> Assignment:
        """Remove the task that a worker has answered from its queue; its next one has begun by now."""
        worker.began = time.monotonic()
        return worker.queue.popleft()

    def steal(self, thief: Worker) -> bool:
        """Give an idle worker the task that has waited longest at another one; returns whether there was any."""
        victims = [w for w in self.workers if w.ready and len(w.queue) > 1 and w.queue[-1].open]
        if not victims:
            return False
        victim = min(victims, key=lambda worker: worker.began)
        stolen = victim.queue[-1]
        stolen.withdrawn = True
        victim.actor.withdraw.options(concurrency_group=CONTROL).remote(stolen.ticket)
        self.assign(stolen.pending, thief)
        return True

    def finish_build(self, worker: Worker, answer: Location | Crash) -> None:
        """Process the answer to a build.

        Raises:
            RunError: if the evaluator cannot be built, and never could.
        """
        if isinstance(answer, Crash):
            self.fail_build(worker, answer.summary, answer.trace, retry=answer.out_of_memory)
            return
        worker.building, worker.location, worker.last, worker.failed_builds = None, answer, answer, 0
        self._ever_ready = True

    def fail_build(self, worker: Worker, why: str, trace: str = "", retry: bool = False) -> None:
        """Have a build retried after a rest, which grows with every failure in a row, or give the worker up.

        If no build ever succeeded, the run itself is at fault, or may be (`retry`: for want of memory, which others
        may give back); if one did, a failure is that of a node.

        Raises:
            RunError: if the run is at fault, or no worker is left.
        """
        worker.failed_builds += 1
        crashed = bool(trace)
        allowed = MAX_BUILDS if crashed else MAX_BUILD_DEATHS
        if not self._ever_ready and ((crashed and not retry) or worker.failed_builds >= allowed):
            raise RunError(self._build_error(why, crashed) + (f"\nIn the worker:\n{trace}" if trace else ""))
        self._kill(worker)
        worker.building = None
        if worker.failed_builds < allowed:
            rest = min(LONGEST_REST_SECONDS, FIRST_REST_SECONDS * 2 ** (worker.failed_builds - 1))
            logger.warning("%s is built again in %g s: %s", worker, rest, why.partition("\n")[0])
            worker.rests_until = time.monotonic() + rest
            return
        self.workers.remove(worker)
        self._given_up.append(worker)
        what = f"{worker} is given up after {worker.failed_builds} failed builds in a row: {why}"
        if not self.workers:
            raise RunError(f"no worker is left; {what}")
        logger.warning("%s; %d workers remain", what, len(self.workers))

    def replace(self, worker: Worker, why: str) -> list[PendingTask]:
        """Replace an actor that is gone or hangs by a new one; returns the open tasks that it held."""
        logger.warning("%s is replaced: %s", worker, why)
        held = [assignment.pending for assignment in worker.queue if assignment.open]
        worker.queue.clear()
        self._renew(worker)
        return held

    def build_rested(self) -> None:
        """Build the workers whose rest after a failed build is over."""
        now = time.monotonic()
        for worker in self.workers:
            if worker.rests_until is not None and worker.rests_until <= now:
                self._create(worker)

    @property
    def next_build(self) -> float:
        """Seconds until a worker is built again; infinite if none rests."""
        rests = [worker.rests_until for worker in self.workers if worker.rests_until is not None]
        return max(0.0, min(rests) - time.monotonic()) if rests else math.inf

    def abandon(self) -> list[PendingTask]:
        """Forget all actors, which are gone together; returns the open tasks that they held, in their order."""
        held = sorted((each for worker in self.workers for each in worker.queue if each.open), key=lambda a: a.ticket)
        self.workers = []
        return [assignment.pending for assignment in held]

    def close(self) -> None:
        """Stop all actors."""
        for worker in self.workers:
            self._kill(worker)
        self.workers = []

    def _build_error(self, why: str, crashed: bool) -> str:
        if crashed:
            return f"the evaluator of factory {self._factory} cannot be built: {why}"
        return (
            f"workers die while factory {self._factory} builds their evaluator ({MAX_BUILD_DEATHS} times in a row): "
            f"{why}. Check whether they run out of memory, or use fewer workers"
        )

    def _renew(self, worker: Worker) -> None:
        self._kill(worker)  # it may only be unreachable, and must not run beside its successor
        self._create(worker)

    def _create(self, worker: Worker) -> None:
        worker.actor, worker.location, worker.rests_until = self._create_actor(), None, None
        worker.building = worker.actor.build.remote()

    def _create_actor(self) -> Any:
        return self._actor_class.remote(self._factory, self._spec)

    def _kill(self, worker: Worker) -> None:
        ray.kill(worker.actor)
