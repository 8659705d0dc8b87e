"""Evaluates candidates in Ray actors, and survives their death."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping
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

from glorasearch.errors import InputError, RunError
from glorasearch.search import Executor
from glorasearch.space import EvaluationResult, EvaluationTask
from workers.actor import Home
from workers.cluster import connect, free_room
from workers.factory import check_factory_name
from workers.worker_pool import QUEUED_PER_WORKER, Attempt, Worker, WorkerPool

logger = logging.getLogger(__name__)

LOSSES: Final = 3
"""A task whose worker died so often while evaluating it, or whose evaluation took too long so often, has failed."""
NOTICE_SECONDS: Final = 30.0
"""How long nothing is said at first while no worker is ready; each time it is twice as long."""
_GONE: Final = (RayActorError, WorkerCrashedError, NodeDiedError, OutOfMemoryError, ObjectLostError)
"""What Ray raises when a process is gone, or out of reach."""


class RayExecutor(Executor):
    """Evaluates in long-lived Ray actors, each with an evaluator of its own that is built once.

    - An actor that dies is replaced, and the tasks that it held are given out again: a killed worker, or a lost node,
      costs nothing but time. A task whose evaluation kills its worker 3 times is answered with an error.
    - Each worker evaluates one task while another one waits at it. Tasks that wait behind a slow worker are taken back
      when another worker has nothing to do.
    - An evaluation that takes longer than the timeout is given to another worker, and its own worker is replaced. After
      3 times it is answered with an error.
    - Workers that find no place in the cluster yet hold no tasks; they join when they can.

    Results do not depend on which worker they come from, as an evaluation is a pure function of its task.

    Args:
        factory: `package.module:function`; called with `spec` in each worker, it returns what evaluates a task.
        spec: JSON-ready; must tell the factory all it needs, such as where the weight store is.
        workers: number of actors.
        address: of a Ray cluster; without it one is started on this machine and shut down by `close`.
        gpus_per_worker: GPUs of each actor; may be a fraction.
        evaluation_timeout: seconds that an evaluation may take from its beginning; None for any number.

    Raises:
        InputError: if `workers`, `gpus_per_worker`, `evaluation_timeout` or the form of `factory` is not allowed.
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
        check_factory_name(factory)
        if workers < 1:
            raise InputError(f"workers is {workers}; allowed are whole numbers from 1")
        if gpus_per_worker < 0:
            raise InputError(f"gpus_per_worker is {gpus_per_worker}; allowed are numbers from 0")
        if evaluation_timeout is not None and evaluation_timeout <= 0:
            raise InputError(f"evaluation_timeout is {evaluation_timeout}; allowed are seconds above 0")
        self._timeout = evaluation_timeout
        self._notice = NOTICE_SECONDS
        self._waiting: deque[Attempt] = deque()
        self._results: deque[EvaluationResult] = deque()
        self._pool: WorkerPool | None = None
        self._started_ray = connect(workers, gpus_per_worker, address)
        try:
            self._pool = WorkerPool(factory, spec, workers, gpus_per_worker)
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
    def status(self) -> str:
        """How many workers there are, if some are not ready."""
        if self._pool is None or len(self._pool.ready) == len(self._pool):
            return ""
        return f"{len(self._pool.ready)} of {len(self._pool)} workers"

    @property
    def homes(self) -> list[Home]:
        """Where the workers that are ready are."""
        return [] if self._pool is None else [worker.home for worker in self._pool.ready if worker.home is not None]

    def wait_until_ready(self) -> None:
        """Wait until all workers are ready; a search does not, it begins with the first one.

        Raises:
            RunError: if no worker is left, or Ray itself fails.
        """
        while self._pool is not None and len(self._pool.ready) < len(self._pool):
            self._step()

    def submit(self, task: EvaluationTask) -> None:
        """Give a task to the worker with the least to do; it waits here while all have enough."""
        self._waiting.append(Attempt(task))
        self._hand_out()

    def next_result(self) -> EvaluationResult:
        """The next result of any worker.

        Raises:
            RunError: if nothing is under way, no worker is left, or Ray itself fails.
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
            if self._started_ray:
                ray.shutdown()

    def _step(self) -> None:
        """Wait until some worker answers or dies or takes too long, and act on all that did."""
        pool = self._pool
        assert pool is not None
        by_reference = {worker.reference: worker for worker in pool.workers if worker.reference is not None}
        references = list(by_reference)
        try:
            answered, _ = ray.wait(references, num_returns=1, timeout=self._patience(pool))
            if answered:
                answered, _ = ray.wait(references, num_returns=len(references), timeout=0)
            for reference in answered:
                self._take(pool, by_reference[reference], reference)
        except RayError as error:
            raise RunError(f"Ray failed: {error}. Start the search again: it goes on where it was") from error
        if pool.ready:
            self._notice = NOTICE_SECONDS
        elif not answered:
            self._notice *= 2
            logger.warning("no worker is ready: %d are being placed or built; %s", len(pool), free_room())
        self._expire(pool)
        self._hand_out()

    def _take(self, pool: WorkerPool, worker: Worker, reference: Any) -> None:
        """Act on what a worker answered, or on its death."""
        try:
            answer = ray.get(reference)
        except RayError as error:
            if worker.building is not None:
                pool.build_failed(worker, str(error))
            elif isinstance(error, _GONE):
                self._lost(pool, worker, error)
            else:
                raise
            return
        if worker.building is not None:
            pool.built(worker, answer)
            return
        handed = pool.pop(worker)
        if answer is not None and not handed.attempt.answered:
            self._answer(handed.attempt, answer)

    def _answer(self, attempt: Attempt, result: EvaluationResult) -> None:
        attempt.answered = True
        self._results.append(result)

    def _lost(self, pool: WorkerPool, worker: Worker, error: RayError) -> None:
        """A worker is gone. It took its tasks in order: the first was being evaluated, the other only waited."""
        first = worker.queue[0]
        if first.open:
            first.attempt.losses += 1
            if first.attempt.losses >= LOSSES:
                reason = f"the worker died {LOSSES} times while evaluating this subnet"
                self._answer(first.attempt, EvaluationResult(first.attempt.task.subnet_digest, error=reason))
        lines = str(error).strip().splitlines() or [type(error).__name__]
        self._waiting.extendleft(reversed(pool.replace(worker, lines[0])))

    def _expire(self, pool: WorkerPool) -> None:
        """Replace the workers whose evaluation takes too long; whatever they still answer, nobody listens."""
        if self._timeout is None:
            return
        now = time.monotonic()
        for worker in pool.workers:
            if not worker.ready or not worker.queue or now - worker.began < self._timeout:
                continue
            first = worker.queue[0]
            if first.open:
                first.attempt.timeouts += 1
                if first.attempt.timeouts >= LOSSES:
                    reason = f"no answer within {self._timeout:g} s, {LOSSES} times"
                    self._answer(first.attempt, EvaluationResult(first.attempt.task.subnet_digest, error=reason))
            why = f"no answer within {self._timeout:g} s to subnet {first.attempt.task.subnet_digest[:12]}"
            self._waiting.extendleft(reversed(pool.replace(worker, why)))

    def _patience(self, pool: WorkerPool) -> float | None:
        """Seconds until something is to be done though nobody answers; None for never."""
        ready = pool.ready
        if not ready:
            return self._notice
        if self._timeout is None:
            return None
        now = time.monotonic()
        return min((max(0.0, w.began + self._timeout - now) for w in ready if w.queue), default=None)

    def _hand_out(self) -> None:
        """Give what waits to those who have least to do; then what waits elsewhere to those who have nothing to do."""
        ready = [] if self._pool is None else self._pool.ready
        if self._pool is None or not ready:
            return
        while self._waiting:
            worker = min(ready, key=lambda worker: len(worker.queue))
            if len(worker.queue) >= QUEUED_PER_WORKER:
                return
            self._pool.hand(self._waiting.popleft(), worker)
        for worker in ready:
            if not worker.queue and not self._pool.steal(worker):
                return
