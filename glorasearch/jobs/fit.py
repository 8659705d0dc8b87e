"""One training inside a job: with progress, records in the database, a checkpoint to resume from."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping

from glorasearch.data import TrainSplit
from glorasearch.jobs.job import Job
from glorasearch.supernet import Supernet
from glorasearch.training import PathStrategy, SupernetTrainer, TrainingRecord, TrainingResult

Probe = Callable[[Supernet], Mapping[str, float]]


def fit(
    job: Job,
    stage: str,
    title: str,
    supernet: Supernet,
    split: TrainSplit,
    strategy: PathStrategy,
    config: SupernetTrainer.Config,
    probe: Probe | None = None,
) -> TrainingResult:
    """Train for a stage of a run; goes on from the stage's checkpoint if there is one.

    Raises:
        NonFiniteLossError: if the training diverges.
    """
    latest: dict[str, float] = {}
    calls = 0

    def record(row: TrainingRecord) -> None:
        latest.update(row.values)
        job.runs.record_metrics(job.name, stage, row.step, row.values)

    with job.progress.task(title, config.steps) as advance:

        def progress(step: int) -> None:
            nonlocal calls
            calls += 1
            if calls == 1 and step > 1:
                job.progress.say(f"{title}: goes on at step {step}")
            advance(step, f"loss {latest['loss']:.3f}" if "loss" in latest else "")

        trainer = SupernetTrainer(
            supernet,
            split,
            strategy,
            config,
            device=job.device,
            checkpoint=job.checkpoint(stage),
            probe=probe,
            on_record=record,
            on_step=progress,
        )
        result = trainer.run()
    del trainer
    if job.device.startswith("cuda"):
        gc.collect()  # a captured step holds gigabytes in reference cycles
    return result
