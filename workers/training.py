"""Training a supernet in several processes, by Ray Train; records and checkpoints go to the driver as they are made."""

from __future__ import annotations

import os
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final

import ray
import ray.train
import ray.train.torch
from ray.exceptions import RayError
from ray.util.queue import Empty, Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from torch import Tensor

import glorasearch.errors as errors
from glorasearch.code_cache import keep_code
from glorasearch.errors import GlorasearchError, RunError, WorkerLostError, first_line, lacks_memory
from glorasearch.evaluation import CandidateEvaluator, probe
from glorasearch.interrupts import is_interrupt
from glorasearch.supernet import Supernet
from glorasearch.training import BACKENDS, ProcessGroup, SingleProcess, SupernetTrainer, TrainingRecord
from glorasearch.training.build import BuiltTraining, TrainingSpec, build_training, check_facts
from glorasearch.training.checkpoints import Checkpoint, pack, unpack
from workers.cluster import connect
from workers.connection import Connection, LostRayError

POLL_SECONDS: Final = 1.0
STEP_SECONDS: Final = 0.5
"""Least time between two messages about the number of steps done."""


def train_on_workers(
    name: str,
    spec: TrainingSpec,
    start: Mapping[str, Tensor],
    checkpoint: Checkpoint | None,
    *,
    processes: int,
    gpus: float,
    address: str | None,
    on_record: Callable[[TrainingRecord], None],
    on_step: Callable[[int], None],
    on_checkpoint: Callable[[Checkpoint], None],
) -> None:
    """Train in `processes` Ray Train workers with `gpus` each, until the last checkpoint has been delivered.

    Driver and workers need no common disk: weights and checkpoints pass through Ray. Each worker builds backbone,
    images and supernet itself, and refuses to start if they are not the driver's.

    Args:
        name: of the training, for Ray's tools.
        spec: what to train.
        start: the initial weights.
        checkpoint: where to resume, if it is of this training.
        processes: number of workers; it divides the number of ranks.
        gpus: of each worker; 0 trains on the CPU.
        address: of a Ray cluster; without it Ray is started on this machine, and shut down at the end.
        on_record: called here with every record.
        on_step: called here now and then with the number of steps done.
        on_checkpoint: called here with every checkpoint.

    Raises:
        GlorasearchError: what a worker raised.
        WorkerLostError: if a worker is gone.
        InputError: if this machine has too few GPUs.
        RunError: if Ray cannot be started or reached.
    """
    connection = connect(processes, gpus, address)
    queue: Queue | None = None
    try:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        config = {
            "spec": spec.to_json(),
            "start": ray.put(pack(Checkpoint(dict(start), {}))),
            "checkpoint": ray.put(pack(checkpoint)),
            "queue": queue,
        }

        def fit() -> None:
            with tempfile.TemporaryDirectory(prefix="glorasearch-ray-train-") as folder:
                _torch_trainer(name, config, processes, gpus, folder).fit()

        _run_and_listen(fit, queue, connection, on_record, on_step, on_checkpoint)
    except LostRayError as error:
        queue = None  # it is gone, too
        raise WorkerLostError(f"{error}, from the last checkpoint") from error
    finally:
        if queue is not None:
            queue.shutdown(force=True)
        connection.close()


def _torch_trainer(
    name: str, config: dict[str, Any], processes: int, gpus: float, folder: str
) -> ray.train.torch.TorchTrainer:
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")  # relative paths of a run file are relative to this directory
    for unused in ("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "RAY_TRAIN_METRICS_ENABLED"):  # each would start a process
        os.environ.setdefault(unused, "0")
    return ray.train.torch.TorchTrainer(
        _work,
        train_loop_config=config,
        scaling_config=ray.train.ScalingConfig(
            num_workers=processes,
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": 1} | ({"GPU": gpus} if gpus else {}),
        ),
        run_config=ray.train.RunConfig(
            name=name.replace("/", "-").replace(":", "-"),
            storage_path=folder,
        ),
        torch_config=ray.train.torch.TorchConfig(backend=BACKENDS["cuda" if gpus else "cpu"]),
    )


def _run_and_listen(
    fit: Callable[[], None],
    queue: Queue,
    connection: Connection,
    on_record: Callable[[TrainingRecord], None],
    on_step: Callable[[int], None],
    on_checkpoint: Callable[[Checkpoint], None],
) -> None:
    """Run Ray Train by `fit` in a thread, and handle the workers' messages here."""
    failures: list[BaseException] = []
    reported: list[tuple[str, str]] = []

    def run() -> None:
        try:
            fit()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="ray-train", daemon=True)
    thread.start()
    while True:
        last = not thread.is_alive()
        try:
            kind, *content = queue.get_nowait() if last else queue.get(timeout=POLL_SECONDS)
        except Empty:
            if last:
                break
            connection.check()
            continue
        except RayError as error:  # the queue is an actor of this node
            connection.check()
            raise WorkerLostError(
                f"the process that passes the training's messages on is gone ({first_line(error)}). Start the same "
                "command again: it resumes from the last checkpoint"
            ) from error
        if kind == "record":
            on_record(TrainingRecord(*content))
        elif kind == "step":
            on_step(*content)
        elif kind == "checkpoint":
            checkpoint = unpack(*content)
            assert checkpoint is not None
            on_checkpoint(checkpoint)
        else:
            reported.append((content[0], content[1]))
    if failures:
        raise _error(reported, failures[0]) from failures[0]


def _error(reported: list[tuple[str, str]], failure: BaseException) -> GlorasearchError:
    """What to raise: an error that a worker reported; that another worker is lost only if nothing else was."""
    for name, message in sorted(reported, key=lambda item: item[0] == WorkerLostError.__name__):
        kind = getattr(errors, name, None)
        if isinstance(kind, type) and issubclass(kind, GlorasearchError):
            return kind(message)
    causes: Mapping[Any, BaseException] = getattr(failure, "worker_failures", {}) or {"Ray Train": failure}
    what = "; ".join(f"{who}: {first_line(error)}" for who, error in causes.items())
    return WorkerLostError(
        f"the training's processes ended before the last step ({what}). Start the same command again: it resumes from "
        "the last checkpoint"
    )


def _work(config: Mapping[str, Any]) -> None:
    """What every worker runs; reports its error to the driver."""
    queue: Queue = config["queue"]
    try:
        _train(config, queue)
    except GlorasearchError as error:
        queue.put(("error", type(error).__name__, str(error)))
        raise
    except BaseException as error:  # a plugin may even end the process
        if is_interrupt(error):
            raise
        process = ray.train.get_context().get_world_rank()
        summary = "".join(traceback.format_exception_only(error)).strip()
        if lacks_memory(error):
            again = "Start the same command again: it resumes from the last checkpoint"
            summary = f"too little memory ({summary}). {again}"
        queue.put(("error", RunError.__name__, f"process {process} of the training failed: {summary}"))
        raise


def _train(config: Mapping[str, Any], queue: Queue) -> None:
    spec = TrainingSpec(**config["spec"])
    several = ray.train.get_context().get_world_size() > 1
    communicator = ProcessGroup() if several else SingleProcess()
    first = communicator.process == 0
    start = unpack(ray.get(config["start"]))
    assert start is not None
    built = build_training(spec, start.tensors)
    device = ray.train.torch.get_device()
    keep_code(spec.code_cache, device, spec.compile, spec.space.plugins)
    driver = _DriverChannel(queue, unpack(ray.get(config["checkpoint"])) if first else None)
    trainer = SupernetTrainer(
        built.supernet,
        built.split,
        built.strategy,
        built.config,
        device=device,
        compile=spec.compile,
        communicator=communicator,
        checkpoint=driver,
        probe=_probe(built, spec, str(device)) if built.probed else None,
        on_record=driver.record,
        on_step=driver.step if first else None,
    )
    if first or trainer.facts:
        check_facts(spec.facts, trainer.facts)
    trainer.run()


def _probe(built: BuiltTraining, spec: TrainingSpec, device: str) -> Callable[[Supernet], Mapping[str, float]]:
    evaluator: CandidateEvaluator | None = None

    def measure(supernet: Supernet) -> Mapping[str, float]:
        nonlocal evaluator
        if evaluator is None:
            evaluator = CandidateEvaluator(supernet, built.data.search, device=device, **spec.evaluator)
        else:
            evaluator.refresh()
        return probe(evaluator, built.probed, spec.measure)

    return measure


class _DriverChannel:
    """Process 0's messages to the driver; a `CheckpointStore` whose checkpoints the driver keeps."""

    def __init__(self, queue: Queue, checkpoint: Checkpoint | None) -> None:
        self._queue, self._checkpoint = queue, checkpoint
        self._in_flight: list[Any] = []
        self._kept = checkpoint is not None
        self._last_step_message = 0.0

    def record(self, record: TrainingRecord) -> None:
        """Send a record, without waiting for its arrival."""
        self._send("record", record.step, dict(record.values))

    def step(self, step: int) -> None:
        """Send the number of steps done, now and then."""
        now = time.monotonic()
        if now - self._last_step_message >= STEP_SECONDS:
            self._last_step_message = now
            self._send("step", step)

    def load(self) -> Checkpoint | None:
        """The checkpoint that the driver passed."""
        return self._checkpoint

    def save(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Send a checkpoint, once everything before it has arrived."""
        self.wait()
        self._kept = True
        self._send("checkpoint", pack(Checkpoint(dict(tensors), dict(meta))))

    def wait(self) -> None:
        """Block until everything has arrived."""
        in_flight, self._in_flight = self._in_flight, []
        ray.get(in_flight)

    def close(self) -> None:
        """Wait; there is nothing to release."""
        self.wait()

    def location(self) -> str | None:
        """At the driver."""
        return "with the run's driver" if self._kept else None

    def _send(self, *message: Any) -> None:
        actor: Any = self._queue.actor
        self._in_flight.append(actor.put_nowait.remote(message))
