"""Training on a Ray cluster; only this process writes checkpoints and the database."""

from __future__ import annotations

from collections.abc import Callable

import torch

from glorasearch.errors import RunError
from glorasearch.runs.resources import load_from_workers
from glorasearch.runs.session import Session
from glorasearch.runs.training import TrainingTask, make_trainer
from glorasearch.training import SupernetTrainer, TrainingResult
from glorasearch.training.build import TrainingSpec, strategy_to_json
from glorasearch.training.checkpoints import Checkpoint, FileCheckpointStore

TRAIN = "workers.training:train_on_workers"


class RayTraining:
    """Trains in Ray Train workers; their number and GPUs are those of the run's resources."""

    def device(self, session: Session) -> str:
        """The device of the workers."""
        return "cuda" if session.resources.train_gpus else "cpu"

    def train(self, session: Session, task: TrainingTask) -> TrainingResult:
        """Train to the last checkpoint on the workers, and load it.

        Raises:
            InputError: if Ray is not installed, or too few GPUs are there.
            RunError: if Ray cannot be reached, or a worker finds other images or another backbone.
            NonFiniteLossError: if the training diverges.
            WorkerLostError: if a process is gone; the same command resumes from the last checkpoint.
        """
        trainer = make_trainer(session, task, compile="off")  # it does no step here, so there is nothing to compile
        checkpoints = FileCheckpointStore(session.files.checkpoint(task.stage))
        found = checkpoints.load()
        if not _is_complete(found, trainer, task):
            self._train(session, task, trainer, checkpoints, found)
        return trainer.run()

    def _train(
        self,
        session: Session,
        task: TrainingTask,
        trainer: SupernetTrainer,
        checkpoints: FileCheckpointStore,
        found: Checkpoint | None,
    ) -> None:
        def keep(checkpoint: Checkpoint) -> None:
            checkpoints.save(*checkpoint)
            checkpoints.wait()

        resources = session.resources
        train_on_workers: Callable[..., None] = load_from_workers(TRAIN)
        try:
            train_on_workers(
                f"{session.name}-{task.stage}",
                _spec(session, task, trainer),
                task.supernet.adapter_state(),
                found,
                processes=resources.train_workers if task.config.ranks > 1 else 1,
                gpus=resources.train_gpus,
                address=resources.address,
                on_record=task.on_record,
                on_step=task.on_step,
                on_checkpoint=keep,
            )
        finally:
            checkpoints.close()
        if not _is_complete(checkpoints.load(), trainer, task):
            raise RunError("the training's processes ended without a last checkpoint; start the same command again")


def _is_complete(checkpoint: Checkpoint | None, trainer: SupernetTrainer, task: TrainingTask) -> bool:
    """Whether a checkpoint is the last one of this training."""
    return (
        checkpoint is not None
        and checkpoint.meta["identity"] == trainer.identity
        and (checkpoint.meta["step"] == task.config.steps or bool(checkpoint.meta.get("over")))
    )


def _spec(session: Session, task: TrainingTask, trainer: SupernetTrainer) -> TrainingSpec:
    return TrainingSpec(
        backbone=session.config.backbone,
        classes=session.data.classes,
        data=session.config.data,
        space=task.space,
        strategy=strategy_to_json(task.strategy),
        config=task.config,
        compile=session.config.compile,
        code_cache=session.code_cache,
        facts=trainer.facts,
        torch=str(torch.__version__),
        with_search=task.split.digest != session.data.train.digest,
        threads=torch.get_num_threads(),
        probed={name: subnet.to_dict() for name, subnet in task.probed.items()},
        measure=task.measure,
        evaluator={
            "batch_size": session.config.search.eval_batch_size,
            "compile": session.config.compile,
            "precision": session.config.search.precision,
        },
    )
