"""The stage that trains the pick alone on train + search.

After a race the pick starts as it raced, at its rate there, and learns what teachers answer on mixed images; without
a race it is the winner of the search, with the supernet's weights. A fixed method is refitted likewise.

All images teach, so none is left to say out of fold whether being taught made the pick better. But the images that a
model was trained on flatter it: if it knows fewer of them than it knew unseen ones in the race, it is knowingly worse.
Then it is trained on the labels.
"""

from __future__ import annotations

import torch

from glorasearch.errors import NonFiniteLossError
from glorasearch.runs.results import Pick, RaceResult, RefitResult, TeacherSummary, TrainResult, stage_name
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
    discarded: TeacherSummary | None = None
    if session.config.race.enabled and section.teachers:
        found = _taught(session, pick)
        if isinstance(found, RefitResult):
            return found
        discarded = found
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
    own = {"start": start, "lr": config.lr, "teachers": discarded}
    return train_and_store(session, task, RefitResult, {"subnet": pick.digest}, **own)


def _taught(session: Session, pick: Pick) -> RefitResult | TeacherSummary:
    """Train the pick on mixed images with the answers of teachers; only what that cost if it is knowingly worse."""
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
            checkpoint=session.files.checkpoint(stage_name(RefitResult, "taught")),
            on_record=record,
            on_step=lambda step: advance(step, f"loss {latest['loss']:.3f}" if "loss" in latest else ""),
            targets=mixed,
        )
        done = trainer.run()
    if not bool(done.finite.all()):
        raise NonFiniteLossError(f"refit of {pick.label} diverged: leave the highest of race.rates out")
    logits = trainer.logits(split, torch.arange(len(split)))[0]
    known = float((logits.argmax(-1) == split.labels.cpu()).double().mean())
    teachers = teachers.model_copy(update={"own_accuracy": known})
    unseen = session.require(RaceResult).winner.last.accuracy
    if known < unseen:
        session.progress.say(
            f"{pick.label}, taught, knows {100 * known:.1f} % of its own training images, fewer than the "
            f"{100 * unseen:.1f} % that it knew out of fold: trained on the labels instead"
        )
        cost = {"steps": teachers.steps + done.steps, "seconds": teachers.seconds + done.seconds}
        return teachers.model_copy(update={"discarded": True, **cost})
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
