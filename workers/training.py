"""Training a supernet in several processes, by Ray Train; what comes out goes to the driver as it is made."""

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
from ray.util.queue import Empty, Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from torch import Tensor

from glorasearch import errors
from glorasearch.errors import GlorasearchError, RunError, WorkerLostError
from glorasearch.evaluation import CandidateEvaluator
from glorasearch.supernet import Supernet
from glorasearch.training import BACKENDS, ProcessGroup, SingleProcess, SupernetTrainer, TrainingRecord
from glorasearch.training.build import BuiltTraining, TrainingSpec, build_training, check_facts
from glorasearch.training.checkpoints import Checkpoint, pack, unpack
from workers.cluster import connect

POLL_SECONDS: Final = 1.0
STEP_SECONDS: Final = 0.5
"""Least time between two messages that say how far the training is."""


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
    """Train in `processes` Ray Train workers with `gpus` each, until the last checkpoint has been given.

    The driver needs no disk in common with the workers: weights and checkpoints pass through Ray. Each worker builds
    backbone, images and supernet itself, and refuses to start where they are not the driver's.

    Args:
        name: of the training, for Ray's eyes.
        spec: what to train.
        start: the first weights.
        checkpoint: where to go on, if it is of this training.
        processes: how many; their number divides that of the ranks.
        gpus: of each; 0 trains on the CPU.
        address: of a Ray cluster; without it Ray is started on this machine, and shut down at the end.
        on_record: called here with every record.
        on_step: called here with the steps done, now and then.
        on_checkpoint: called here with every checkpoint.

    Raises:
        GlorasearchError: what a worker raised.
        WorkerLostError: if a worker is gone.
        InputError: if this machine has too few GPUs.
        RunError: if Ray cannot be started or reached.
    """
    started_ray = connect(processes, gpus, address)
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
        _follow(name, config, processes, gpus, queue, on_record, on_step, on_checkpoint)
    finally:
        if queue is not None:
            queue.shutdown(force=True)
        if started_ray:
            ray.shutdown()


def _follow(
    name: str,
    config: dict[str, Any],
    processes: int,
    gpus: float,
    queue: Queue,
    on_record: Callable[[TrainingRecord], None],
    on_step: Callable[[int], None],
    on_checkpoint: Callable[[Checkpoint], None],
) -> None:
    """Run Ray Train in a thread, and act here on what the workers say."""
    failures: list[BaseException] = []
    told: list[tuple[str, str]] = []

    def fit() -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="glorasearch-ray-train-") as folder:
                _trainer(name, config, processes, gpus, folder).fit()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=fit, name="ray-train", daemon=True)
    thread.start()
    while True:
        last = not thread.is_alive()
        try:
            kind, *content = queue.get_nowait() if last else queue.get(timeout=POLL_SECONDS)
        except Empty:
            if last:
                break
            continue
        if kind == "record":
            on_record(TrainingRecord(*content))
        elif kind == "step":
            on_step(*content)
        elif kind == "checkpoint":
            state = unpack(*content)
            assert state is not None
            on_checkpoint(state)
        else:
            told.append((content[0], content[1]))
    if failures:
        raise _reason(told, failures[0]) from failures[0]


def _trainer(
    name: str, config: dict[str, Any], processes: int, gpus: float, folder: str
) -> ray.train.torch.TorchTrainer:
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")  # relative paths of a run file mean this directory
    for unused in ("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "RAY_TRAIN_METRICS_ENABLED"):  # a process each to start
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


def _reason(told: list[tuple[str, str]], failure: BaseException) -> GlorasearchError:
    """What to raise: what a worker said before it ended, the loss of another one only if nothing else was said."""
    for name, message in sorted(told, key=lambda item: item[0] == WorkerLostError.__name__):
        kind = getattr(errors, name, None)
        if isinstance(kind, type) and issubclass(kind, GlorasearchError):
            return kind(message)
    causes: Mapping[Any, BaseException] = getattr(failure, "worker_failures", {}) or {"Ray Train": failure}
    what = "; ".join(f"{who}: {(str(error).strip().splitlines() or ['?'])[0]}" for who, error in causes.items())
    return WorkerLostError(
        f"the training's processes ended before the last step ({what}). Start the same command again: it goes on from "
        "the last checkpoint"
    )


class _Driver:
    """The driver as process 0 sees it; a `CheckpointStore` whose checkpoints the driver keeps."""

    def __init__(self, queue: Queue, checkpoint: Checkpoint | None) -> None:
        self._queue, self._checkpoint = queue, checkpoint
        self._under_way: list[Any] = []
        self._kept = checkpoint is not None
        self._told = 0.0

    def record(self, row: TrainingRecord) -> None:
        """A record; nobody waits for it to arrive."""
        self._send("record", row.step, dict(row.values))

    def step(self, step: int) -> None:
        """How far the training is, now and then."""
        now = time.monotonic()
        if now - self._told >= STEP_SECONDS:
            self._told = now
            self._send("step", step)

    def load(self) -> Checkpoint | None:
        """The checkpoint that the driver gave."""
        return self._checkpoint

    def save(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Give a checkpoint to the driver, after everything before has arrived."""
        self.wait()
        self._kept = True
        self._send("checkpoint", pack(Checkpoint(dict(tensors), dict(meta))))

    def wait(self) -> None:
        """Until everything has arrived."""
        under_way, self._under_way = self._under_way, []
        ray.get(under_way)

    def close(self) -> None:
        """Nothing but to wait."""
        self.wait()

    def location(self) -> str | None:
        """The driver's."""
        return "with the run's driver" if self._kept else None

    def _send(self, *message: Any) -> None:
        actor: Any = self._queue.actor
        self._under_way.append(actor.put_nowait.remote(message))


def _work(config: Mapping[str, Any]) -> None:
    """What every worker does."""
    queue: Queue = config["queue"]
    try:
        _train(config, queue)
    except GlorasearchError as error:
        queue.put(("error", type(error).__name__, str(error)))
        raise
    except Exception as error:
        process = ray.train.get_context().get_world_rank()
        summary = "".join(traceback.format_exception_only(error)).strip()
        queue.put(("error", RunError.__name__, f"process {process} of the training failed: {summary}"))
        raise


def _train(config: Mapping[str, Any], queue: Queue) -> None:
    told = TrainingSpec(**config["spec"])
    context = ray.train.get_context()
    communicator = ProcessGroup() if context.get_world_size() > 1 else SingleProcess()
    start = unpack(ray.get(config["start"]))
    assert start is not None
    built = build_training(told, start.tensors)
    device = ray.train.torch.get_device()
    driver = _Driver(queue, unpack(ray.get(config["checkpoint"])) if communicator.process == 0 else None)
    trainer = SupernetTrainer(
        built.supernet,
        built.split,
        built.strategy,
        built.config,
        device=device,
        communicator=communicator,
        checkpoint=driver,
        probe=_probe(built, told, str(device)) if built.probed else None,
        on_record=driver.record,
        on_step=driver.step if communicator.process == 0 else None,
    )
    if communicator.process == 0 or trainer.facts:
        check_facts(told.facts, trainer.facts)
    trainer.run()


def _probe(built: BuiltTraining, told: TrainingSpec, device: str) -> Callable[[Supernet], Mapping[str, float]]:
    evaluator: CandidateEvaluator | None = None

    def measure(supernet: Supernet) -> Mapping[str, float]:
        nonlocal evaluator
        if evaluator is None:
            evaluator = CandidateEvaluator(supernet, built.data.search, device=device, **told.evaluator)
        else:
            evaluator.refresh()
        return {name: evaluator.evaluate(subnet).accuracy for name, subnet in built.probed.items()}

    return measure
