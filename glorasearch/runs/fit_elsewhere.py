"""Training in processes of a Ray cluster; this process keeps the checkpoint, and alone writes to the database."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch

from glorasearch.data import TrainSplit
from glorasearch.errors import InputError, RunError
from glorasearch.runs.run import Run
from glorasearch.space import SearchSpace, Subnet
from glorasearch.supernet import Supernet
from glorasearch.training import SamplingStrategy, SupernetTrainer, TrainingRecord
from glorasearch.training.build import TrainingSpec, strategy_to_json
from glorasearch.training.checkpoints import Checkpoint, FileCheckpointStore

TRAIN = "workers.training", "train_on_workers"


def check_train_workers(run: Run) -> None:
    """Refuse numbers of processes that cannot share the ranks of a step.

    Raises:
        InputError: saying what to set.
    """
    resources, ranks = run.resources, run.config.train.ranks
    workers = resources.train_workers
    if ranks % workers:
        raise InputError(
            f"--train-workers is {workers}, and a step has {ranks} rank{'s' * (ranks > 1)} (train.ranks): the number "
            f"of processes must divide that of the ranks. Ranks belong to what a run is: set them in the run file or "
            f"by --set train.ranks={workers}"
        )
    if workers > 1 and resources.train_gpus % 1:
        raise InputError(
            f"--train-gpus is {resources.train_gpus:g}: processes that train together need whole GPUs; use 1, or 0 "
            "for the CPU"
        )


def training_device(run: Run) -> str:
    """The kind of device that the supernet is trained on, wherever that is."""
    if not trains_elsewhere(run):
        return run.device
    return "cuda" if run.resources.train_gpus else "cpu"


def trains_elsewhere(run: Run, config: SupernetTrainer.Config | None = None) -> bool:
    """Whether a training, that of the supernet if none is given, is done by other processes than this one.

    What has one rank (a refit, a baseline) goes elsewhere for a GPU only.
    """
    ranks = run.config.train.ranks if config is None else config.ranks
    several = run.resources.train_workers > 1 and ranks > 1
    return not run.resources.local and (several or run.resources.train_gpus > 0)


def fit_elsewhere(
    run: Run,
    stage: str,
    trainer: SupernetTrainer,
    supernet: Supernet,
    split: TrainSplit,
    strategy: SamplingStrategy,
    config: SupernetTrainer.Config,
    probed: Mapping[str, Subnet],
    space: SearchSpace,
    on_record: Callable[[TrainingRecord], None],
    on_step: Callable[[int], None],
) -> None:
    """Bring the stage's checkpoint to the last step of the training that `trainer` would do.

    Raises:
        InputError: if Ray is not installed, or too few GPUs are there.
        RunError: if Ray cannot be reached, or a worker finds other images or another backbone.
        NonFiniteLossError: if the training diverges.
        WorkerLostError: if a process is gone; the same command goes on from the last checkpoint.
    """
    checkpoints = FileCheckpointStore(run.checkpoint(stage))
    found = checkpoints.load()
    if found is not None and found.meta["identity"] == trainer.identity and found.meta["step"] == config.steps:
        return
    wanted = run.config.search.precision
    spec = TrainingSpec(
        backbone=asdict(run.backbone_config(drop_path=True)),
        data=asdict(run.data_config),
        space=space.model_dump(mode="json", exclude_none=True),
        strategy=strategy_to_json(strategy),
        config=asdict(config) | {"compile": run.config.compile},
        facts=trainer.facts,
        torch=str(torch.__version__),
        with_search=split.digest != run.data.train.digest,
        threads=torch.get_num_threads(),
        probed={name: subnet.to_dict() for name, subnet in probed.items()},
        evaluator={
            "batch_size": run.config.search.eval_batch_size,
            "compile": run.config.compile,
            "mixed": None if wanted == "auto" else wanted == "bfloat16",
        },
    )

    def keep(state: Checkpoint) -> None:
        checkpoints.save(*state)
        checkpoints.wait()

    module, name = TRAIN
    try:
        train_on_workers: Callable[..., None] = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise InputError(
            f"--train-workers and --train-gpus need Ray Train, which cannot be loaded ({error}); install it by "
            "pip install 'glorasearch[ray]'"
        ) from error
    resources: dict[str, Any] = {
        "processes": run.resources.train_workers if config.ranks > 1 else 1,
        "gpus": run.resources.train_gpus,
        "address": run.resources.address,
    }
    try:
        train_on_workers(
            f"{run.name}-{stage}",
            spec,
            supernet.adapter_state(),
            found,
            **resources,
            on_record=on_record,
            on_step=on_step,
            on_checkpoint=keep,
        )
    finally:
        checkpoints.close()
    state = checkpoints.load()
    if state is None or state.meta["identity"] != trainer.identity or state.meta["step"] != config.steps:
        raise RunError("the training's processes ended without a last checkpoint; start the same command again")
