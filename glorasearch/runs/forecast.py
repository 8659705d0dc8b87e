"""How long a run will take, measured on a few steps of its own, and what it will write: said before it starts."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from glorasearch.db import ForecastStore
from glorasearch.errors import NonFiniteLossError
from glorasearch.evaluation import probe
from glorasearch.quantities import about
from glorasearch.runs.entrants import methods
from glorasearch.runs.evaluation import make_evaluator
from glorasearch.runs.results import RaceResult, RefitResult, SearchResult, TestResult, TrainResult
from glorasearch.runs.room import needed_room
from glorasearch.runs.session import Session
from glorasearch.training import SupernetTrainer, TrainingConfig, make_strategy

STEPS: Final = 6
"""Steps that are measured, but for the first one, which sets things up."""
SECONDS: Final = 5.0
"""Fewer, if they take longer than this."""
_PILOT_CHECKS: Final = 3
_JUDGED: Final = 9


@dataclass(frozen=True)
class Work:
    """What a stage computes, at most."""

    steps: int = 0
    """Optimiser steps, those of models that are trained side by side counted one by one."""
    candidates: int = 0
    """Subnets that are scored on the search split."""


@dataclass(frozen=True)
class Forecast:
    """What is ahead of a run."""

    device: str
    step_seconds: float
    candidate_seconds: float
    work: Mapping[str, Work]
    """Stage -> what it computes, at most, of those that have not finished."""
    writes: Mapping[Path, tuple[int, str]]
    """Folder -> bytes, and what they are for."""
    workers: int = 1
    """Processes that score candidates."""

    @property
    def seconds(self) -> dict[str, float]:
        """Stage -> seconds."""
        each = self.candidate_seconds / self.workers
        return {name: one.steps * self.step_seconds + one.candidates * each for name, one in self.work.items()}

    @property
    def sentences(self) -> list[str]:
        """For the run's output."""
        seconds = self.seconds
        parts = ", ".join(f"{name} {about(round(value))}" for name, value in seconds.items() if value)
        found = [
            f"takes about {about(round(sum(seconds.values())))} at most on {self.device} ({parts}), by "
            f"{self.step_seconds:.3g} s a step and {self.candidate_seconds:.3g} s a candidate, measured"
        ]
        if not any(one.steps or one.candidates for one in self.work.values()):
            found = ["nothing is left to train or to score"]
        if self.writes:
            places: dict[str, list[str]] = {}
            for folder, (size, what) in self.writes.items():
                places.setdefault(str(folder), []).append(f"{what} {megabytes(size)}")
            total = sum(size for size, _ in self.writes.values())
            where = "; ".join(f"{', '.join(parts)} in {folder}" for folder, parts in places.items())
            found.append(f"writes about {megabytes(total)} at most: {where}")
        return found

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "device": self.device,
            "seconds": sum(self.seconds.values()),
            "stages": {
                name: {"seconds": self.seconds[name], "steps": one.steps, "candidates": one.candidates}
                for name, one in self.work.items()
            },
            "step_seconds": self.step_seconds,
            "candidate_seconds": self.candidate_seconds,
            "bytes": sum(size for size, _ in self.writes.values()),
            "writes": [
                {"folder": str(folder), "bytes": size, "what": what} for folder, (size, what) in self.writes.items()
            ],
        }


def megabytes(size: int) -> str:
    """Bytes in megabytes."""
    return f"{size / 1e6:,.1f} MB" if size < 1e7 else f"{size / 1e6:,.0f} MB"


def forecast(session: Session, only: str | None = None) -> Forecast:
    """Measure a few steps and a candidate, on adapters that are thrown away, and add up what is ahead.

    Nothing is stored, and no draw of the run itself is used up.
    """
    ahead = work_ahead(session, only)
    with torch.random.fork_rng():
        step, candidate = _measured(session) if any(one.steps or one.candidates for one in ahead.values()) else (0, 0)
    return _made(session, only, ahead, step, candidate)


def forecast_later(session: Session, only: str | None = None) -> None:
    """Have a run on a GPU say what is ahead after the first steps of its first training, which captures its step."""
    ahead = work_ahead(session, only)

    def say(seconds: float) -> None:
        session.on_step_seconds = None
        found = _made(session, only, ahead, seconds, _by_steps(session, seconds))
        ForecastStore(session.runs.database).record(session.name, found.seconds)
        for sentence in found.sentences:
            session.progress.say(sentence)

    session.on_step_seconds = say


def _made(session: Session, only: str | None, ahead: Mapping[str, Work], step: float, candidate: float) -> Forecast:
    supernet = session.supernet()
    writes = needed_room(session, supernet, only)
    session.give_back(supernet)
    workers = 1 if session.resources.local else session.resources.evaluators
    return Forecast(session.device, step, candidate, ahead, writes, workers)


def work_ahead(session: Session, only: str | None) -> dict[str, Work]:
    """What the stages that have not finished compute, at most: pilots may be given up, trainings may be taken over."""
    config, results = session.config, session.stored.results
    train, alone = config.train, session.only_subnet is not None
    earlier, point = session.stored.earlier, config.point.run is not None
    steps = train.steps - (earlier.steps if earlier is not None and "train" not in results else 0)
    found: dict[str, Work] = {}
    if train.lr == "auto" and not point and (earlier is None or earlier.pilot is None):
        rates = len(train.pilot_rates)
        found["pilot"] = Work(rates * train.pilot(1.0).steps, rates * _PILOT_CHECKS * (1 if alone else _JUDGED))
    if not point:
        probes = 4 * (steps // train.probe_every if train.probe_every else 0)
        found[TrainResult.stage] = Work(steps, probes)
        found[SearchResult.stage] = Work(0, 1 if alone else config.search.trials + config.report.chance_subnets)
    if config.race.enabled:
        each = config.race.training_steps(train.steps)
        found[RaceResult.stage] = Work(config.race.trainings(racing(session)) * each)
    refit = config.refit
    taught = refit.teachers * refit.steps_of_teachers if config.race.enabled else 0
    found[RefitResult.stage] = Work(refit.steps * (1 + refit.folds) + (taught if refit.steps else 0))
    baselines = len(config.report.baselines) + (config.race.enabled and config.report.best_fixed and not alone)
    left = max(0, baselines - len(results.baselines))
    found["baseline"] = Work(left * (train.steps if config.report.steps is None else config.report.steps))
    tested = 2 + baselines + config.report.random_subnets
    images = session.source.test / max(1, session.source.search)
    found[TestResult.stage] = Work(0, round(tested * images))
    wanted = {"pilot", "train"} if only == "train" else {only} if only is not None else set(found)
    return {name: one for name, one in found.items() if name in wanted and name not in results}


def racing(session: Session) -> int:
    """Candidates of the race, at most."""
    race = session.config.race
    if session.only_subnet is not None:
        return len(race.rates) * len(race.starts)
    own = race.named + race.finalists
    return len(race.rates) * (len(methods(session)[0]) + own * len(race.starts))


class _EnoughError(Exception):
    """Ends the measured training."""


def _measured(session: Session) -> tuple[float, float]:
    """Seconds of a step, and of a candidate."""
    train = session.config.train
    rate = train.pilot_rates[0] if train.lr == "auto" else train.lr
    recipe: TrainingConfig = session.space.recipe.apply(train.at(rate)).replace(steps=1_000, patience=0)
    supernet = session.supernet(training=True)
    ends = [time.perf_counter()]

    def clock(step: int) -> None:
        _wait(session)
        ends.append(time.perf_counter())
        if len(ends) > STEPS + 1 or (len(ends) > 2 and ends[-1] - ends[0] > SECONDS):
            raise _EnoughError

    compile = session.config.compile
    trainer = SupernetTrainer(
        supernet,
        session.data.train,
        make_strategy(recipe, supernet.space),
        recipe,
        device=session.device,
        compile=compile,
        on_step=clock,
    )
    with suppress(_EnoughError, NonFiniteLossError):  # the run itself says that it diverges
        trainer.run()
    found = sorted(after - before for before, after in itertools.pairwise(ends))
    step = found[len(found) // 2] if found else 0.0
    candidate = _by_steps(session, step)
    if candidate > SECONDS:  # two of them, to say how long the others take, would take longer than anybody waits
        return step, candidate
    subnet = {"measured": session.only_subnet or supernet.space.smallest()}
    evaluator = make_evaluator(session, session.supernet(), compile=compile)
    candidates = []
    for _ in range(2):
        began = time.perf_counter()
        probe(evaluator, subnet, "accuracy")
        _wait(session)
        candidates.append(time.perf_counter() - began)
    return step, min(candidates)


def _by_steps(session: Session, step: float) -> float:
    """Seconds of a candidate by those of a step: a forward pass takes a third of it, a candidate that of its images."""
    return session.source.search / session.config.train.batch_size * step / 3


def _wait(session: Session) -> None:
    """Until a GPU has done what it was asked to."""
    if session.device.startswith("cuda"):
        torch.cuda.synchronize()
