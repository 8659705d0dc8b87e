"""Evaluates candidates in Ray actors, and survives their death."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import ray
from ray.exceptions import RayActorError, RayError

from glorasearch.errors import InputError, JobError
from glorasearch.search import Executor
from glorasearch.space import EvaluationResult, EvaluationTask
from workers.actor import Crash, EvaluatorActor
from workers.cluster import connect
from workers.factory import check_factory_name

QUEUED_PER_WORKER: Final = 2
"""One task is evaluated while the next one already waits at the worker."""
LOSSES: Final = 3
"""A task that was being evaluated when its worker died so often is answered with an error; likewise a build."""


@dataclass(slots=True)
class _Attempt:
    """A task, and how often its worker died while evaluating it."""

    task: EvaluationTask
    losses: int = 0


@dataclass(slots=True)
class _Worker:
    """One place for an actor; when the actor dies, another one takes the place."""

    actor: Any
    building: Any
    """Reference of the build under way; None once the evaluator is there."""
    build_losses: int = 0
    queue: deque[tuple[Any, _Attempt]] = field(default_factory=deque)
    """(reference, attempt), in the order in which the actor takes them."""

    @property
    def reference(self) -> Any:
        """What the actor answers next, if it has anything to do."""
        if self.building is not None:
            return self.building
        return self.queue[0][0] if self.queue else None


class RayExecutor(Executor):
    """Evaluates in long-lived Ray actors, each with an evaluator of its own that is built once.

    An actor that dies is replaced, and the tasks that it held are given out again: a killed worker costs nothing but
    time. A task whose evaluation kills its worker 3 times is answered with an error. Results do not depend on which
    worker they come from, as an evaluation is a pure function of its task.

    Args:
        factory: `package.module:function`; called with `spec` in each worker, it returns what evaluates a task.
        spec: JSON-ready; must tell the factory all it needs, such as where the weight store is.
        workers: number of actors.
        address: of a Ray cluster; without it one is started on this machine and shut down by `close`.
        gpus_per_worker: GPUs of each actor; may be a fraction.

    Raises:
        InputError: if `workers`, `gpus_per_worker` or the form of `factory` is not allowed.
        JobError: if Ray cannot be started, or the factory fails in a worker; the message holds the cause.
    """

    def __init__(
        self,
        factory: str,
        spec: Mapping[str, Any],
        workers: int,
        address: str | None = None,
        gpus_per_worker: float = 0,
    ) -> None:
        check_factory_name(factory)
        if workers < 1:
            raise InputError(f"workers is {workers}; allowed are whole numbers from 1")
        if gpus_per_worker < 0:
            raise InputError(f"gpus_per_worker is {gpus_per_worker}; allowed are numbers from 0")
        self._factory = factory
        self._spec = dict(spec)
        self._waiting: deque[_Attempt] = deque()
        self._workers: list[_Worker] = []
        self._started_ray = connect(workers, gpus_per_worker, address)
        try:
            remote = ray.remote(num_cpus=1, num_gpus=gpus_per_worker, max_restarts=0, max_task_retries=0)
            self._actor_class = remote(EvaluatorActor)
            for _ in range(workers):
                actor = self._start_actor()
                self._workers.append(_Worker(actor, actor.build.remote()))
            while any(worker.building is not None for worker in self._workers):
                self._step()
        except BaseException:
            self.close()
            raise

    @property
    def capacity(self) -> int:
        """Two tasks for each worker: one is evaluated, one waits."""
        return QUEUED_PER_WORKER * len(self._workers)

    def submit(self, task: EvaluationTask) -> None:
        """Give a task to the worker with the least to do; it waits here while all have enough."""
        self._waiting.append(_Attempt(task))
        self._hand_out()

    def next_result(self) -> EvaluationResult:
        """The next result of any worker.

        Raises:
            JobError: if nothing is under way, an evaluator raised something else than `EvaluationError`, a replaced
                worker cannot be built, or Ray itself fails.
        """
        while self._waiting or any(worker.queue for worker in self._workers):
            result = self._step()
            if result is not None:
                return result
        raise JobError("no result to wait for: every submitted task has been answered")

    def close(self) -> None:
        """Stop the workers; shut Ray down if it was started here."""
        workers, self._workers = self._workers, []
        self._waiting.clear()
        if ray.is_initialized():
            for worker in workers:
                ray.kill(worker.actor)
            if self._started_ray:
                ray.shutdown()

    def _start_actor(self) -> Any:
        return self._actor_class.remote(self._factory, self._spec)

    def _hand_out(self) -> None:
        while self._waiting:
            worker = min(self._workers, key=lambda worker: len(worker.queue))
            if len(worker.queue) >= QUEUED_PER_WORKER:
                return
            attempt = self._waiting.popleft()
            worker.queue.append((worker.actor.evaluate.remote(attempt.task), attempt))

    def _step(self) -> EvaluationResult | None:
        """Wait until one worker answers or dies, and act on it; a result, if there is one."""
        by_reference = {worker.reference: worker for worker in self._workers if worker.reference is not None}
        try:
            ready, _ = ray.wait(list(by_reference), num_returns=1)
            worker = by_reference[ready[0]]
            try:
                answer = ray.get(ready[0])
            except RayActorError as error:
                return self._replace(worker, error)
        except RayError as error:
            raise JobError(f"Ray failed: {error}. Start the search again: it goes on where it was") from error
        if isinstance(answer, Crash):
            what = "be built" if worker.building is not None else "evaluate a candidate"
            trace = f"In the worker:\n{answer.trace}"
            raise JobError(f"the evaluator of factory {self._factory} cannot {what}: {answer.summary}\n{trace}")
        if worker.building is not None:
            worker.building = None
            worker.build_losses = 0
            return None
        worker.queue.popleft()
        self._hand_out()
        result: EvaluationResult = answer
        return result

    def _replace(self, worker: _Worker, error: RayActorError) -> EvaluationResult | None:
        """Put a new actor in the place of a dead one, and give out again what the dead one held."""
        held = [attempt for _, attempt in worker.queue]
        worker.queue.clear()
        answer: EvaluationResult | None = None
        if worker.building is not None:
            worker.build_losses += 1
            if worker.build_losses >= LOSSES:
                raise JobError(
                    f"workers die while factory {self._factory} builds their evaluator ({LOSSES} times in a row): "
                    f"{error}. Look for a lack of memory, or use fewer workers"
                )
        elif held:
            # An actor takes its tasks in order: the first was being evaluated, the others only waited behind it.
            held[0].losses += 1
            if held[0].losses >= LOSSES:
                digest = held.pop(0).task.subnet_digest
                answer = EvaluationResult(digest, error=f"the worker died {LOSSES} times while evaluating this subnet")
        self._waiting.extendleft(reversed(held))
        ray.kill(worker.actor)  # it may be out of reach only; a second one must not run beside it
        worker.actor = self._start_actor()
        worker.building = worker.actor.build.remote()
        self._hand_out()
        return answer
