"""The stage that trains the pick alone on train + search.

After a race the pick starts as it raced, at its rate there, and learns what teachers answer on mixed images; without
a race it is the winner of the search, with the supernet's weights. A fixed method is refitted likewise.

All images teach, so none is left to say out of fold whether being taught made the pick better. But the images that a
model was trained on flatter it: if it knows fewer of them than it knew unseen ones in the race, it is knowingly worse.
Then it is trained on the labels. Without a race, `refit.folds` judges the refit on held-out parts of the search split
before it: a refit that is worse there than the inherited weights is not made.
"""

from __future__ import annotations

from typing import Final

import torch

from glorasearch.data import SearchSplit, TrainSplit
from glorasearch.errors import NonFiniteLossError
from glorasearch.evaluation import logits_on_search
from glorasearch.evaluation.scoring import tempered_of
from glorasearch.race import fold_of
from glorasearch.runs.config import RunConfig
from glorasearch.runs.memory import free_steps
from glorasearch.runs.results import (
    Pick,
    RaceResult,
    RefitJudgement,
    RefitResult,
    TeacherSummary,
    TrainResult,
    stage_name,
)
from glorasearch.runs.session import Session
from glorasearch.runs.teachers import member_of, recipe_of, teach
from glorasearch.runs.training import LocalTraining, TrainingTask, keep, train, train_and_store
from glorasearch.stacked import StackedTrainer
from glorasearch.supernet import Supernet
from glorasearch.tasks import Task
from glorasearch.training import Fixed, TrainingConfig, TrainingRecord

UNJUDGED: Final = (
    "refit: no image is left to say whether it makes the weights better, as refit.folds is 0; 5 asks first, "
    "for five refits more, and keeps the inherited weights where they are better"
)


def refit(session: Session) -> RefitResult:
    """Refit the pick; with 0 steps the inherited weights are kept."""
    section, pick = session.config.refit, session.pick
    if section.steps == 0:
        return _inherited(session)
    discarded: TeacherSummary | None = None
    if session.config.race.enabled and section.teachers:
        found = _taught(session, pick)
        if isinstance(found, RefitResult):
            return found
        discarded = found
    config = recipe_of(session, pick, section.steps)
    judged = _judge(session, pick, config) if section.folds else None
    if judged is None and not session.config.race.enabled:
        session.progress.say(UNJUDGED)
    if judged is not None:
        session.progress.say(judged.sentence)
        if judged.worse:
            return _inherited(session, judged)
    task = _task(session, pick, config, session.data.train_and_search(), RefitResult.stage, _title(session, pick))
    own = {"start": _start(session, pick), "lr": config.lr, "teachers": discarded, "judged": judged}
    return train_and_store(session, task, RefitResult, {"subnet": pick.digest}, **own)


def _inherited(session: Session, judged: RefitJudgement | None = None) -> RefitResult:
    """The weights of the supernet, kept."""
    return RefitResult(
        weights=session.verify(TrainResult),
        steps=0,
        seconds=0.0,
        loss=None,
        split=None,
        start="inherited",
        lr=None,
        judged=judged,
    )


def _start(session: Session, pick: Pick) -> str:
    """The weights to start from: `inherited` or `fresh`."""
    return pick.start or session.config.refit.start


def _task(
    session: Session, pick: Pick, config: TrainingConfig, split: TrainSplit, stage: str, title: str
) -> TrainingTask:
    """A plain training of the pick on a split."""
    supernet = session.supernet(session.space_of(pick.space_key), training=True)
    if _start(session, pick) == "inherited":
        session.load(supernet, TrainResult)
        supernet.warm_ups.hold_restarts()  # the winner was scored as it is
    return TrainingTask(
        stage=stage,
        title=title,
        supernet=supernet,
        space=session.stored.spaces[pick.space_key],
        split=split,
        strategy=Fixed(pick.subnet),
        config=config,
    )


def _judge(session: Session, pick: Pick, config: TrainingConfig) -> RefitJudgement:
    """Train the pick once without each fold of the search split, in this process, and compare it there with what it
    starts from: the supernet has not seen these images either. That the search chose by them favours its weights."""
    search, folds = session.data.search, session.config.refit.folds
    task = search.task
    groups = task.strata(search.labels.numpy())
    fold = torch.from_numpy(fold_of(groups, folds, session.config.seed, search.first_equals()))

    def logits(supernet: Supernet) -> torch.Tensor:
        size = session.config.search.eval_batch_size
        return logits_on_search(supernet.merged(pick.subnet), search, device=session.device, batch_size=size)

    inherited = logits(session.load(session.supernet(session.space_of(pick.space_key)), TrainResult))
    refitted, steps, seconds = torch.zeros_like(inherited), 0, 0.0
    for number in range(folds):
        rest = session.data.train.with_search(search, (fold != number).nonzero()[:, 0])
        title = f"{_title(session, pick)}, fold {number + 1} of {folds}"
        work = _task(session, pick, config, rest, stage_name(RefitResult, f"fold{number + 1}"), title)
        with session.progress.stage(work.stage):
            done = train(session, work, LocalTraining())
        steps, seconds = steps + done.steps, seconds + done.seconds
        refitted = torch.where((fold == number)[:, None], logits(work.supernet), refitted)
    own: dict[str, float] = {}
    if task.right_or_wrong:
        own["temperature"] = 1 / tempered_of(refitted, search.labels, task)[1]
    else:
        own |= {"error": _error(task, refitted, search), "error_inherited": _error(task, inherited, search)}
    return RefitJudgement(
        folds=folds,
        images=len(search),
        correct=int(task.right(refitted, search.labels).sum()),
        correct_inherited=int(task.right(inherited, search.labels).sum()),
        steps=steps,
        seconds=seconds,
        **own,
    )


def _error(task: Task, outputs: torch.Tensor, split: SearchSplit | TrainSplit) -> float:
    """The mean squared error of numbers."""
    return tempered_of(outputs.cpu(), split.labels.cpu(), task)[0]


def _taught(session: Session, pick: Pick) -> RefitResult | TeacherSummary:
    """Train the pick on mixed images with the answers of teachers; only what that cost if it is knowingly worse."""
    mixed, teachers = teach(session)
    config = recipe_of(session, pick, session.config.refit.steps).replace(patience=0)
    supernet = session.supernet(session.space_of(pick.space_key), training=True)
    backbone = session.fresh_backbone(drop_path=config.drop_path)
    latest: dict[str, float] = {}
    split, stage = session.data.train_and_search(), stage_name(RefitResult, "taught")

    def record(row: TrainingRecord) -> None:
        latest.update(row.values)
        keep(session, stage, row)

    with session.progress.stage(stage), session.progress.task(_title(session, pick), config.steps) as advance:
        trainer = StackedTrainer(
            backbone,
            [member_of(session, backbone, pick, config, torch.arange(len(mixed)))],
            split,
            device=session.device,
            compile=session.config.compile,
            checkpoint=session.files.checkpoint(stage),
            on_record=record,
            on_step=lambda step: advance(step, f"loss {latest['loss']:.3f}" if "loss" in latest else ""),
            targets=mixed,
            in_turns=compiled_for(pick, session.require(TrainResult), session.config, session.device) or None,
        )
        done = trainer.run()
    if not bool(done.finite.all()):
        raise NonFiniteLossError(f"refit of {pick.label} diverged: leave the highest of race.rates out")
    logits, state = trainer.logits(split, torch.arange(len(split)))[0], trainer.state(0)
    del trainer
    free_steps(session.device)
    teachers, worse = _knows(teachers, logits, split, session.require(RaceResult))
    if worse:
        session.progress.say(f"{pick.label}, taught, {worse}: trained on the labels instead")
        cost = {"steps": teachers.steps + done.steps, "seconds": teachers.seconds + done.seconds}
        return teachers.model_copy(update={"discarded": True, **cost})
    supernet.load_adapter_state(state)
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


def compiled_for(pick: Pick, trained: TrainResult, config: RunConfig, device: str) -> bool:
    """Whether the run's own training of its supernet has compiled the step that a taught pick can take: on a GPU, for
    as many images, so not in ranks."""
    compiled = trained.steps > 0 and trained.from_run is None and config.compile != "off" and device.startswith("cuda")
    return compiled and pick.own_space and config.train.ranks == 1 and config.point.run is None


def _knows(
    teachers: TeacherSummary, logits: torch.Tensor, split: TrainSplit, race: RaceResult
) -> tuple[TeacherSummary, str]:
    """With what the taught winner knows of its own training images; and in words if that is worse than out of fold."""
    unseen = race.winner.last
    if unseen.accuracy is None:
        error, before = _error(split.task, logits, split), unseen.judged or 0.0
        said = (
            f"has a mean squared error of {error:.3f} on its own training images, more than the {before:.3f} that it "
            "had out of fold"
        )
        return teachers.model_copy(update={"own_error": error}), said * (error > before)
    known = float(split.task.right(logits, split.labels.cpu()).double().mean())
    said = (
        f"knows {100 * known:.1f} % of its own training images, fewer than the {100 * unseen.accuracy:.1f} % that it "
        "knew out of fold"
    )
    return teachers.model_copy(update={"own_accuracy": known}), said * (known < unseen.accuracy)


def _title(session: Session, pick: Pick) -> str:
    if session.only_subnet is not None:
        return f"refit of {session.bound_space.name}"
    chosen = session.config.race.enabled or session.config.point.run is not None
    return f"refit of {pick.label}" if chosen else "refit of the winner"
