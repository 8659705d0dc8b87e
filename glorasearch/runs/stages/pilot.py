"""The stage that finds the learning rate, where the run file leaves it open."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from glorasearch.errors import NonFiniteLossError
from glorasearch.identity import digest, identity
from glorasearch.runs.pilots import JUDGED_BY, GivenUpError, checks, in_order, is_behind, judged_subnets, outcome
from glorasearch.runs.results import Pilot, PilotResult, Results, stage_name
from glorasearch.runs.session import Session, versions
from glorasearch.runs.training import TrainingTask, keep, train, training_backend
from glorasearch.space import Subnet, fitness_name
from glorasearch.supernet import Supernet
from glorasearch.training import TrainingConfig, TrainingRecord, make_strategy
from glorasearch.weights import frozen_digest

SECONDS = "seconds"
"""Metric of a pilot: its wall-clock seconds at a check."""


def pilot(session: Session) -> PilotResult:
    """Train the supernet shortly at each rate, and return the best one; or take it over from another run.

    Each pilot is stored when it ends, so that an interrupted run repeats none.

    Raises:
        RunError: if all pilots diverged.
    """
    config = session.config
    earlier = session.stored.earlier
    if earlier is not None and earlier.pilot is not None:
        session.progress.say(f"learning rate {earlier.pilot.lr:g}: that of run {earlier.name!r}, trained longer")
        return earlier.pilot.model_copy(update={"from_run": earlier.name})
    key = _key(session)
    known = _found_before(session, key)
    if known is not None:
        session.progress.say(f"learning rate {known.lr:g}: taken over from run {known.from_run!r}")
        return known
    subnets = judged_subnets(session.bound_space, config.seed)
    done: list[Pilot] = []
    for number, rate in enumerate(in_order(config.train.pilot_rates), 1):
        title = f"pilot {number} of {len(config.train.pilot_rates)}, rate {rate:g}"
        done.append(_run(session, rate, title, subnets, done, key))
    found = outcome(done, len(subnets))
    rates = config.train.pilot_rates
    ends = {min(rates): "lowest", max(rates): "highest"}
    note = f", the {ends[found.lr]} that was tried (train.pilot_rates)" if found.lr in ends else ""
    session.progress.say(f"learning rate {found.lr:g}{note}")
    return PilotResult.of(found, key=key, split=session.data.train_and_search().digest)


def _run(
    session: Session,
    rate: float,
    title: str,
    subnets: Mapping[str, Subnet],
    others: Sequence[Pilot],
    key: str,
) -> Pilot:
    """The pilot at a rate, from the database if it has ended, from its checkpoint if it was interrupted."""
    part = f"{rate:g}"
    stage = stage_name(Pilot, part)
    known = session.stored.results.get(Pilot, part)
    if known is None or known.key != key:
        with session.progress.stage(stage):
            known = _train(session, rate, title, stage, subnets, others, key)
            session.stored.save(stage, known)
    session.files.forget_checkpoint(stage)
    return known


def _train(
    session: Session,
    rate: float,
    title: str,
    stage: str,
    subnets: Mapping[str, Subnet],
    others: Sequence[Pilot],
    key: str,
) -> Pilot:
    config = session.space.recipe.apply(session.config.train.pilot(rate))
    began, reached = time.perf_counter(), 0

    def judge(record: TrainingRecord) -> None:
        nonlocal reached
        reached = max(reached, record.step)
        if subnets.keys() <= record.values.keys():
            keep(session, stage, TrainingRecord(record.step, {SECONDS: before + elapsed()}))
            scores = _scores(session, stage, config, subnets, reached)
            if record.step < config.steps and is_behind(scores, others, session.data.chance):
                raise GivenUpError

    def advance(step: int) -> None:
        nonlocal reached
        reached = max(reached, step)

    def elapsed() -> float:
        return time.perf_counter() - began

    before = _latest_seconds(session, stage)
    supernet = session.supernet(training=True)
    task = TrainingTask(
        stage=stage,
        title=title,
        supernet=supernet,
        space=session.space,
        split=session.data.train,
        strategy=make_strategy(config, supernet.space),
        config=config,
        probed=subnets,
        measure=JUDGED_BY,
        on_record=judge,
        on_step=advance,
    )
    stopped = diverged = False
    try:
        train(session, task)
    except GivenUpError:
        stopped = True
    except NonFiniteLossError:
        diverged = True
    scores = _scores(session, stage, config, subnets, reached)
    found = Pilot(
        rate=rate,
        steps=reached,
        seconds=before + elapsed(),
        checks=checks(config)[: len(scores)],
        scores=tuple(scores),
        stopped=stopped,
        diverged=diverged,
        key=key,
    )
    state = "diverged" if diverged else f"{fitness_name(JUDGED_BY)} {scores[-1]:.3f}"
    session.progress.say(f"{title}: {state}{f', given up after {reached} of {config.steps} steps' * stopped}")
    return found


def _scores(
    session: Session, stage: str, config: TrainingConfig, subnets: Mapping[str, Subnet], reached: int
) -> list[float]:
    """The pilot's score at each check of the steps so far."""
    found: dict[int, list[float]] = {}
    for metric in session.runs.metrics(session.name, stage):
        if metric.name in subnets:
            found.setdefault(metric.step, []).append(metric.value)
    return [sum(found[step]) / len(found[step]) for step in checks(config) if step in found and step <= reached]


def _latest_seconds(session: Session, stage: str) -> float:
    return max((one.value for one in session.runs.metrics(session.name, stage) if one.name == SECONDS), default=0.0)


def _key(session: Session) -> str:
    """Digest of all that the pilots depend on."""
    config = session.config
    supernet: Supernet = session.supernet()
    content: dict[str, Any] = {
        "backbone": frozen_digest(supernet),
        "space": session.bound_space.digest,
        "judged": [subnet.digest for subnet in judged_subnets(session.bound_space, config.seed).values()],
        "splits": [session.data.train.digest, session.data.search.digest],
        "train": [identity(config.train), identity(session.space.recipe.apply(config.train.pilot(1.0)))],
        "precision": config.search.precision,
        "seed": config.seed,
        "threads": config.threads,
        "device": training_backend(session, config.train.ranks).device(session),
        "versions": versions(),
    }
    session.give_back(supernet)
    if session.space.plugins:
        content["plugins"] = session.plugins_of(session.space)
    return digest(content)


def _found_before(session: Session, key: str) -> PilotResult | None:
    """The result of another run that had the same pilots."""
    for record in [] if session.fresh else session.runs.list():
        result = Results(record.stages, record.name).readable(PilotResult)
        if record.name != session.name and result is not None and result.key == key:
            return result.model_copy(update={"from_run": record.name})
    return None
