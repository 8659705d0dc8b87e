"""One training of a run: with progress, metrics in the database, and a checkpoint to resume from."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from glorasearch.config import Compile
from glorasearch.data import TrainSplit
from glorasearch.dotted import load_object
from glorasearch.errors import NonFiniteLossError
from glorasearch.evaluation import CandidateEvaluator, probe
from glorasearch.runs.curves import Row
from glorasearch.runs.evaluation import make_evaluator
from glorasearch.runs.memory import free_steps
from glorasearch.runs.results import RefitResult, TrainedResult
from glorasearch.runs.session import Session
from glorasearch.space import Fitness, SearchSpace, Subnet
from glorasearch.supernet import Supernet
from glorasearch.training import SamplingStrategy, SupernetTrainer, TrainingRecord, TrainingResult

Trained = TypeVar("Trained", bound=TrainedResult)


@dataclass(frozen=True, kw_only=True)
class TrainingTask:
    """A training that a stage asks for."""

    stage: str
    title: str
    """Title of its progress bar."""
    supernet: Supernet
    """Trained in place, from its present weights."""
    space: SearchSpace
    """The space of the supernet."""
    split: TrainSplit
    strategy: SamplingStrategy
    config: SupernetTrainer.Config
    probed: Mapping[str, Subnet] = field(default_factory=dict)
    """Name of a metric → the subnet whose score on the search split it is."""
    measure: Fitness = "accuracy"
    """The part of the score that the metrics are."""
    on_record: Callable[[TrainingRecord], None] = lambda record: None
    """Called with every record once it is in the database; may raise, which ends the training."""
    on_step: Callable[[int], None] = lambda step: None


class TrainingBackend(Protocol):
    """Trains in this process or elsewhere; `ResourceConfig` names it."""

    def device(self, session: Session) -> str:
        """The device of the training."""
        ...

    def train(self, session: Session, task: TrainingTask) -> TrainingResult:
        """Train to the last step, resuming from the stage's checkpoint if it is of this training.

        Raises:
            NonFiniteLossError: if the training diverges.
            WorkerLostError: if a process that takes part is gone.
        """
        ...


class LocalTraining:
    """Trains in this process."""

    def device(self, session: Session) -> str:
        """The run's device."""
        return session.device

    def train(self, session: Session, task: TrainingTask) -> TrainingResult:
        """Train to the last step, resuming from the stage's checkpoint if it is of this training."""
        return make_trainer(session, task).run()


def training_backend(session: Session, ranks: int) -> TrainingBackend:
    """The backend of a training with `ranks` ranks."""
    backend: TrainingBackend = load_object(session.resources.training_backend(ranks))()
    return backend


def train(session: Session, task: TrainingTask, backend: TrainingBackend | None = None) -> TrainingResult:
    """Train on a backend, that of the run's resources if none is given, showing progress and recording metrics.

    Raises:
        NonFiniteLossError: if the training diverges.
        WorkerLostError: if a process that takes part is gone.
    """
    latest: dict[str, float] = {}
    begun = False

    first: tuple[int, float] | None = None

    def record(row: TrainingRecord) -> None:
        nonlocal first
        if session.on_step_seconds is not None:  # a record waits for the device
            now = time.perf_counter()
            if first is not None:
                session.on_step_seconds((now - first[1]) / max(1, row.step - first[0]))
            first = row.step, now
        latest.update(row.values)
        keep(session, task.stage, row)
        task.on_record(row)

    with session.progress.task(task.title, task.config.steps) as advance:

        def show(step: int) -> None:
            nonlocal begun
            if not begun and step > 1:
                session.progress.say(f"{task.title}: resumes at step {step}")
            begun = True
            advance(step, f"loss {latest['loss']:.3f}" if "loss" in latest else "")
            task.on_step(step)

        backend = backend or training_backend(session, task.config.ranks)
        try:
            result = backend.train(session, replace(task, on_record=record, on_step=show))
        except NonFiniteLossError as error:
            sections = "[refit] and [train]" if task.stage.startswith(RefitResult.stage) else "[train]"
            raise NonFiniteLossError(f"{task.title}: {error}. Its settings are in {sections}") from error
    free_steps(session.device)
    if result.kept_step is not None:
        session.progress.say(best_check(task, result))
    return result


def keep(session: Session, stage: str, record: TrainingRecord) -> None:
    """Keep what a training has measured: in the database, and in the run's curves."""
    session.runs.record_metrics(session.name, stage, record.step, record.values)
    session.curves.add([Row(stage, record.step, record.values)])


def best_check(task: TrainingTask, result: TrainingResult) -> str:
    """What early stopping did."""
    done = f"all {result.steps}" if result.steps == task.config.steps else f"{result.steps} of {task.config.steps}"
    return (
        f"{task.title}: {done} steps; the weights after step {result.kept_step} are kept, the best on the "
        f"{result.judged_images} training images that it did not learn from"
    )


def train_and_store(
    session: Session,
    task: TrainingTask,
    kind: type[Trained],
    facts: Mapping[str, Any] = {},
    **own: Any,
) -> Trained:
    """Train, as `train`, store the weights, and return the result of the stage.

    Args:
        session: of the run.
        task: the training.
        kind: class of the result.
        facts: what the manifest of the weights holds besides steps and split.
        **own: the fields of the result that are not those of every `TrainedResult`.
    """
    done, split = train(session, task), task.split.digest
    return kind.of(
        done,
        weights=session.put(task.supernet, task.stage, steps=done.steps, split=split, **facts),
        loss=done.loss if done.steps else None,
        split=split,
        **own,
    )


def make_trainer(session: Session, task: TrainingTask, *, compile: Compile | None = None) -> SupernetTrainer:
    """The trainer of a task on this process's device; `compile` overrides that of the run."""
    return SupernetTrainer(
        task.supernet,
        task.split,
        task.strategy,
        task.config,
        device=session.device,
        compile=compile or session.config.compile,
        checkpoint=session.files.checkpoint(task.stage),
        probe=_probe(session, task) if task.probed else None,
        on_record=task.on_record,
        on_step=task.on_step,
    )


def _probe(session: Session, task: TrainingTask) -> Callable[[Supernet], Mapping[str, float]]:
    evaluator: CandidateEvaluator | None = None

    def measure(supernet: Supernet) -> Mapping[str, float]:
        nonlocal evaluator
        if evaluator is None:  # one training has one supernet
            evaluator = make_evaluator(session, supernet)
        else:
            evaluator.refresh()
        return probe(evaluator, task.probed, task.measure)

    return measure
