"""One training inside a run: with progress, records in the database, a checkpoint to resume from."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import replace

from glorasearch.data import TrainSplit
from glorasearch.evaluation import CandidateEvaluator
from glorasearch.runs.fit_elsewhere import fit_elsewhere, trains_elsewhere
from glorasearch.runs.run import Run
from glorasearch.runs.scoring import evaluator_of
from glorasearch.space import SearchSpace, Subnet
from glorasearch.supernet import Supernet
from glorasearch.training import SamplingStrategy, SupernetTrainer, TrainingRecord, TrainingResult

Probe = Callable[[Supernet], Mapping[str, float]]


def fit(
    run: Run,
    stage: str,
    title: str,
    supernet: Supernet,
    split: TrainSplit,
    strategy: SamplingStrategy,
    config: SupernetTrainer.Config,
    *,
    probed: Mapping[str, Subnet] | None = None,
    space: SearchSpace | None = None,
) -> TrainingResult:
    """Train for a stage of a run, where the run is placed; goes on from the stage's checkpoint if there is one.

    Args:
        run: the run.
        stage: its name.
        title: how it is called where its progress is shown.
        supernet: what is trained, from the weights that it has.
        split: the images: those of train, or of train + search.
        strategy: the paths.
        config: the recipe.
        probed: name of a metric → the subnet whose accuracy on the search split it is.
        space: that of the supernet; the run's if not given.

    Raises:
        NonFiniteLossError: if the training diverges.
        WorkerLostError: if it is placed in other processes and one of them is gone.
    """
    latest: dict[str, float] = {}
    calls = 0

    def record(row: TrainingRecord) -> None:
        latest.update(row.values)
        run.runs.record_metrics(run.name, stage, row.step, row.values)

    with run.progress.task(title, config.steps) as advance:

        def progress(step: int) -> None:
            nonlocal calls
            calls += 1
            if calls == 1 and step > 1:
                run.progress.say(f"{title}: goes on at step {step}")
            advance(step, f"loss {latest['loss']:.3f}" if "loss" in latest else "")

        elsewhere = trains_elsewhere(run, config)
        if elsewhere:
            config = replace(config, compile="off")  # this process takes over what was trained, and no step of its own
        trainer = SupernetTrainer(
            supernet,
            split,
            strategy,
            config,
            device=run.device,
            checkpoint=run.checkpoint(stage),
            probe=_probe(run, probed) if probed else None,
            on_record=record,
            on_step=progress,
        )
        if elsewhere:
            content = space or run.space
            fit_elsewhere(
                run, stage, trainer, supernet, split, strategy, config, probed or {}, content, record, progress
            )
        result = trainer.run()
    del trainer
    if run.device.startswith("cuda"):
        gc.collect()  # a captured step holds gigabytes in reference cycles
    return result


def _probe(run: Run, subnets: Mapping[str, Subnet]) -> Probe:
    evaluator: CandidateEvaluator | None = None

    def measure(supernet: Supernet) -> Mapping[str, float]:
        nonlocal evaluator
        if evaluator is None:  # one training has one supernet
            evaluator = evaluator_of(run, supernet)
        else:
            evaluator.refresh()
        return {name: evaluator.evaluate(subnet).accuracy for name, subnet in subnets.items()}

    return measure
