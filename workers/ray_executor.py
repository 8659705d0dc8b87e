"""Evaluates candidates in Ray actors, and survives their deaths."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import ray
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    WorkerCrashedError,
)

from glorasearch.errors import InputError, RunError, first_line, first_sentence
from glorasearch.search import Executor, WorkerStatus
from glorasearch.space import EvaluationResult, EvaluationTask
from workers.actor import check_function_name
from workers.cluster import connect, free_room
from workers.connection import CHECK_SECONDS, LostRayError
from workers.worker_pool import QUEUED_PER_WORKER, Assignment, PendingTask, Worker, WorkerPool

logger = logging.getLogger(__name__)

MAX_ATTEMPTS: Final = 3
"""A task fails when so many workers have died while evaluating it, have not answered in time, or lacked memory."""
NOTICE_SECONDS: Final = 30.0
"""How long to wait for the first worker before saying so; doubled each time."""
_GONE: Final = (RayActorError, WorkerCrashedError, NodeDiedError, OutOfMemoryError, ObjectLostError)
"""What Ray raises when a process is gone, or unreachable."""


class RayExecutor(Executor):
    """Evaluates in long-lived Ray actors, each with its own evaluator, which is built once.

    - An actor that dies is replaced, and its tasks are assigned again: a killed worker, or a lost node, costs nothing
      but time. A task whose evaluation kills its worker 3 times is answered with an error.
    - Each worker evaluates one task and has another one queued. Tasks that wait behind a slow worker are reassigned
      when another worker is idle.
    - An evaluation that exceeds the timeout is given to another worker, and its own worker is replaced. After 3 times
      it is answered with an error.
    - A worker that has too little memory for a candidate is replaced, which frees what it held, and the candidate is
      evaluated by another one. If 3 lack memory for it, it is answered with their error.
    - A worker that dies while it is built is built again after a rest, which grows from 0.5 to 30 s.
    - If the Ray that was started here dies as a whole, it is started again, once, and what was open is evaluated again.
    - Workers for which the cluster has no room yet hold no tasks; they join when it has.

    Results do not depend on the worker, since an evaluation is a pure function of its task.

    Args:
        factory: `package.module:function`; called with `spec` in each worker, it returns what evaluates a task.
        spec: JSON-ready; all that the factory needs, such as where the weight store is.
        workers: number of actors.
        address: of a Ray cluster; without it one is started on this machine and shut down by `close`.
        gpus_per_worker: GPUs of each actor; may be a fraction.
        evaluation_timeout: seconds that an evaluation may take; None for no limit.

    Raises:
        InputError: if `workers`, `gpus_per_worker`, `evaluation_timeout` or the form of `factory` is invalid.
        RunError: if Ray cannot be started, or the factory fails in a worker; the message holds the cause.
    """

    def __init__(
        self,
        factory: str,
        spec: Mapping[str, Any],
        workers: int,
        address: str | None = None,
        gpus_per_worker: float = 0,
        evaluation_timeout: float | None = None,
    ) -> None:
        check_function_name(factory)
        if workers < 1:
            raise InputError(f"workers is {workers}; allowed are whole numbers from 1")
        if gpus_per_worker < 0:
            raise InputError(f"gpus_per_worker is {gpus_per_worker}; allowed are numbers from 0")
        if evaluation_timeout is not None and evaluation_timeout <= 0:
            raise InputError(f"evaluation_timeout is {evaluation_timeout}; allowed are seconds above 0")
        self._timeout = evaluation_timeout
        self._notice = NOTICE_SECONDS
        self._ready_at = time.monotonic()
        self._restarted = False
        self._make_pool = partial(WorkerPool, factory, spec, workers, gpus_per_worker)
        self._waiting: deque[PendingTask] = deque()
        self._results: deque[EvaluationResult] = deque()
        self._pool: WorkerPool | None = None
        self._connection = connect(workers, gpus_per_worker, address)
        try:
            self._pool = self._make_pool()
            while not self._pool.ready:
                self._step()
        except BaseException:
            self.close()
            raise

    @property
    def capacity(self) -> int:
        """Two tasks for each worker: one is evaluated, one waits."""
        return QUEUED_PER_WORKER * max(1, 0 if self._pool is None else len(self._pool))

    @property
    def staff(self) -> Sequence[WorkerStatus]:
        """The actors, those that wait for a place, and those that were given up."""
        return [] if self._pool is None else self._pool.staff

    @property
    def status(self) -> str:
        """How many workers there are, if some are not ready."""
        if self._pool is None or len(self._pool.ready) == len(self._pool):
            return ""
        return f"{len(self._pool.ready)} of {len(self._pool)} workers"

    def submit(self, task: EvaluationTask) -> None:
        """Assign a task to the worker with the shortest queue; it waits here while all queues are full."""
        self._waiting.append(PendingTask(task))
        self._dispatch()

    def next_result(self) -> EvaluationResult:
        """The next result of any worker.

        Raises:
            RunError: if nothing is in progress, no worker is left, or Ray itself fails.
        """
        while not self._results:
            if self._pool is None or not (self._waiting or self._pool.busy):
                raise RunError("no result to wait for: every submitted task has been answered")
            self._step()
        return self._logged(self._results.popleft())

    def close(self) -> None:
        """Stop the workers; shut Ray down if it was started or joined here."""
        pool, self._pool = self._pool, None
        self._waiting.clear()
        self._results.clear()
        if ray.is_initialized():
            if pool is not None:
                pool.close()
            self._connection.close()

    def _step(self) -> None:
        """Wait until a worker answers, dies or times out, for a while at most, and process all that did."""
        pool = self._pool
        assert pool is not None
        try:
            self._process_answers(pool)
        except LostRayError as error:
            self._restart(pool, error)

    def _process_answers(self, pool: WorkerPool) -> None:
        pool.build_rested()
        by_reference = {worker.reference: worker for worker in pool.workers if worker.reference is not None}
        references = list(by_reference)
        try:
            answered = _wait(references, self._wait_seconds(pool))
            if not answered:
                self._connection.check()
            for reference in answered:
                self._process(pool, by_reference[reference], reference)
        except RayError as error:
            self._connection.check()
            raise RunError(f"Ray failed: {error}. Start the search again: it resumes where it stopped") from error
        if pool.ready:
            self._notice, self._ready_at = NOTICE_SECONDS, time.monotonic()
        elif time.monotonic() - self._ready_at > self._notice:
            self._notice *= 2
            logger.warning("no worker is ready: %d are being placed or built; %s", len(pool), free_room())
        self._replace_overdue(pool)
        self._dispatch()

    def _restart(self, pool: WorkerPool, error: LostRayError) -> None:
        """Start the Ray that has died again, and new workers on it, once.

        Raises:
            LostRayError: the second time, and if it is not this process's.
        """
        held = pool.abandon()
        if self._restarted or not self._connection.restart():
            raise error
        self._restarted = True
        logger.warning("%s. It was started again by itself, for this once", first_sentence(error))
        self._waiting.extendleft(reversed(held))
        self._pool = self._make_pool()

    def _process(self, pool: WorkerPool, worker: Worker, reference: Any) -> None:
        """Process a worker's answer, or its death."""
        try:
            answer = ray.get(reference)
        except RayError as error:
            self._connection.check()  # the death of a Ray is no fault of a candidate
            if worker.building is not None:
                pool.fail_build(worker, str(error))
            elif isinstance(error, _GONE):
                self._replace_dead(pool, worker, error)
            else:
                raise
            return
        if worker.building is not None:
            pool.finish_build(worker, answer)
            return
        assignment = pool.pop(worker)
        if answer is not None and answer.out_of_memory and self._replace_exhausted(pool, worker, assignment, answer):
            return
        if answer is not None:
            worker.done.answered(answer)
        if answer is not None and not assignment.pending.answered:
            self._answer(assignment.pending, answer)

    def _answer(self, pending: PendingTask, result: EvaluationResult) -> None:
        pending.answered = True
        self._results.append(result)

    def _answer_error(self, pending: PendingTask, reason: str) -> None:
        self._answer(pending, EvaluationResult(pending.task.subnet_digest, error=reason))

    def _replace_dead(self, pool: WorkerPool, worker: Worker, error: RayError) -> None:
        """Replace a worker that is gone. It takes tasks in order: the first was being evaluated, the other waited."""
        first = worker.queue[0]
        if first.open:
            first.pending.deaths += 1
            if first.pending.deaths >= MAX_ATTEMPTS:
                self._answer_error(first.pending, f"the worker died {MAX_ATTEMPTS} times while evaluating this subnet")
        self._waiting.extendleft(reversed(pool.replace(worker, first_line(error))))

    def _replace_exhausted(
        self, pool: WorkerPool, worker: Worker, assignment: Assignment, answer: EvaluationResult
    ) -> bool:
        """Replace a worker that lacks memory, unless too many did for this task; returns whether that was done."""
        task = [assignment.pending] if assignment.open else []
        assignment.pending.exhausted += 1
        if assignment.pending.exhausted >= MAX_ATTEMPTS:
            return False
        self._waiting.extendleft(reversed([*task, *pool.replace(worker, str(answer.error))]))
        return True

    def _replace_overdue(self, pool: WorkerPool) -> None:
        """Replace the workers whose evaluation has timed out; whatever they still answer is ignored."""
        if self._timeout is None:
            return
        now = time.monotonic()
        for worker in pool.workers:
            if not worker.ready or not worker.queue or now - worker.began < self._timeout:
                continue
            first = worker.queue[0]
            if first.open:
                first.pending.timeouts += 1
                if first.pending.timeouts >= MAX_ATTEMPTS:
                    self._answer_error(first.pending, f"no answer within {self._timeout:g} s, {MAX_ATTEMPTS} times")
            why = f"no answer within {self._timeout:g} s to subnet {first.pending.task.subnet_digest[:12]}"
            self._waiting.extendleft(reversed(pool.replace(worker, why)))

    def _wait_seconds(self, pool: WorkerPool) -> float:
        """Seconds until there is something to do even if no worker answers."""
        seconds = min(CHECK_SECONDS, pool.next_build)
        if self._timeout is None:
            return seconds
        now = time.monotonic()
        overdue = (max(0.0, w.began + self._timeout - now) for w in pool.ready if w.queue)
        return min([seconds, *overdue])

    def _dispatch(self) -> None:
        """Assign waiting tasks to the shortest queues, then reassign tasks from behind others to idle workers."""
        ready = [] if self._pool is None else self._pool.ready
        if self._pool is None or not ready:
            return
        while self._waiting:
            worker = min(ready, key=lambda worker: len(worker.queue))
            if len(worker.queue) >= QUEUED_PER_WORKER:
                return
            self._pool.assign(self._waiting.popleft(), worker)
        for worker in ready:
            if not worker.queue and not self._pool.steal(worker):
                return


def _wait(references: list[Any], seconds: float) -> list[Any]:
    """Those of the references that are answered, or become so within that time."""
    if not references:
        time.sleep(seconds)
        return []
    answered, _ = ray.wait(references, num_returns=1, timeout=seconds)
    if answered:
        answered, _ = ray.wait(references, num_returns=len(references), timeout=0)
    return list(answered)
