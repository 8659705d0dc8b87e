"""The stage that trains the pick alone on train + search.

After a race the pick starts as it raced, at its rate there, and learns what teachers answer on mixed images; without
a race it is the winner of the search, with the supernet's weights. A fixed method is refitted likewise.
"""

from __future__ import annotations

import torch

from glorasearch.errors import NonFiniteLossError
from glorasearch.runs.results import Pick, RefitResult, TrainResult
from glorasearch.runs.session import Session
from glorasearch.runs.teachers import member_of, recipe_of, teach
from glorasearch.runs.training import TrainingTask, train_and_store
from glorasearch.stacked import StackedTrainer
from glorasearch.training import Fixed, TrainingRecord


def refit(session: Session) -> RefitResult:
    """Refit the pick; with 0 steps the inherited weights are kept."""
    section, pick = session.config.refit, session.pick
    if section.steps == 0:
        inherited = session.verify(TrainResult)
        return RefitResult(weights=inherited, steps=0, seconds=0.0, loss=None, split=None, start="inherited", lr=None)
    if session.config.race.enabled and section.teachers:
        return _taught(session, pick)
    supernet = session.supernet(session.space_of(pick.space_key), training=True)
    start, config = pick.start or section.start, recipe_of(session, pick, section.steps)
    if start == "inherited":
        session.load(supernet, TrainResult)
        supernet.warm_ups.hold_restarts()  # the winner was scored as it is
    task = TrainingTask(
        stage=RefitResult.stage,
        title=_title(session, pick),
        supernet=supernet,
        space=session.stored.spaces[pick.space_key],
        split=session.data.train_and_search(),
        strategy=Fixed(pick.subnet),
        config=config,
    )
    return train_and_store(session, task, RefitResult, {"subnet": pick.digest}, start=start, lr=config.lr)


def _taught(session: Session, pick: Pick) -> RefitResult:
    """Train the pick on mixed images with the answers of teachers."""
    mixed, teachers = teach(session)
    config = recipe_of(session, pick, session.config.refit.steps)
    supernet = session.supernet(session.space_of(pick.space_key), training=True)
    backbone = session.fresh_backbone(drop_path=config.drop_path)
    latest: dict[str, float] = {}
    split = session.data.train_and_search()

    def record(row: TrainingRecord) -> None:
        latest.update(row.values)
        session.runs.record_metrics(session.name, RefitResult.stage, row.step, row.values)

    with session.progress.task(_title(session, pick), config.steps) as advance:
        trainer = StackedTrainer(
            backbone,
            [member_of(session, backbone, pick, config, torch.arange(len(mixed)))],
            split,
            device=session.device,
            compile=session.config.compile,
            checkpoint=session.files.checkpoint(RefitResult.stage),
            on_record=record,
            on_step=lambda step: advance(step, f"loss {latest['loss']:.3f}" if "loss" in latest else ""),
            targets=mixed,
        )
        done = trainer.run()
    if not bool(done.finite.all()):
        raise NonFiniteLossError(f"refit of {pick.label} diverged: leave the highest of race.rates out")
    supernet.load_adapter_state(trainer.state(0))
    return RefitResult(
        weights=session.put(supernet, RefitResult.stage, steps=done.steps, split=split.digest, subnet=pick.digest),
        steps=done.steps,
        seconds=done.seconds,
        loss=float(done.loss[0]),
        split=split.digest,
        start=pick.start or "fresh",
        lr=config.lr,
        teachers=teachers,
    )


def _title(session: Session, pick: Pick) -> str:
    if session.only_subnet is not None:
        return f"refit of {session.bound_space.name}"
    return f"refit of {pick.label}" if session.config.race.enabled else "refit of the winner"
