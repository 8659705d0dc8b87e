"""All stages of a run in order: a finished one is not repeated, an interrupted one resumes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from glorasearch.db import ForecastStore, RunState
from glorasearch.errors import RunError, reason
from glorasearch.interrupts import is_interrupt
from glorasearch.runs.checks import check_run
from glorasearch.runs.curves import opening
from glorasearch.runs.curves.open import database_rows, opened_curves
from glorasearch.runs.forecast import Forecast, forecast, forecast_later
from glorasearch.runs.results import Results, TrainedResult
from glorasearch.runs.session import Session
from glorasearch.runs.stage_result import StageResult
from glorasearch.runs.stages.baseline import baseline
from glorasearch.runs.stages.export import export
from glorasearch.runs.stages.final_test import final_test
from glorasearch.runs.stages.pilot import pilot
from glorasearch.runs.stages.point import take_over
from glorasearch.runs.stages.race import race
from glorasearch.runs.stages.refit import refit
from glorasearch.runs.stages.report import report
from glorasearch.runs.stages.search import search
from glorasearch.runs.stages.train import train
from glorasearch.runs.telemetry.open import endpoints, opened_telemetry

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """A step of a run."""

    run: Callable[..., StageResult]
    """Called with the session, and with the name of a part if there are `parts`."""
    parts: Callable[[Session], Iterable[str]] | None = None
    """The parts, such as baselines, of a stage that runs several times; asked for when their turn comes."""
    wanted: Callable[[Session], bool] = lambda session: True
    """Whether the run has this stage."""
    command: str | None = None
    """The stage that runs this one too, before itself, where it is run alone."""


STAGES: Final[Mapping[str, Stage]] = {
    "pilot": Stage(pilot, wanted=lambda session: session.config.train.lr == "auto", command="train"),
    "train": Stage(train),
    "search": Stage(search),
    "race": Stage(race, wanted=lambda session: session.config.race.enabled),
    "refit": Stage(refit),
    "baseline": Stage(baseline, parts=lambda session: session.baselines),
    "test": Stage(final_test),
    "export": Stage(export),  # after the test, so that the model card can give its accuracy
    "report": Stage(report),
}
"""The stages, in order."""


def run_stages(session: Session, only: str | None = None) -> StageResult:
    """Run all stages, or one, and return the result of the last; see `Run.execute`.

    Raises:
        InputError: if the run cannot work as it is described.
        RunLockedError: if another live process works on this run.
        RunError: if a stage fails; what finished before it is kept.
    """
    check_run(session, only)
    session.keep_code()
    ahead: dict[str, float] = {}
    if session.device.startswith("cuda"):  # it would capture its step twice
        forecast_later(session, only)
    else:
        found = forecast(session, only)
        ahead = found.seconds
        for sentence in found.sentences:
            session.progress.say(sentence)
    for name in session.config.report.baselines if only is None else ():
        if name not in session.baselines:
            session.progress.say(f"baseline {name}: this run's own method, not trained a second time")
    if session.fresh:
        session.stored.forget()
    session.stored.open()
    runs, name = session.runs, session.name
    with (
        runs.lock(name) as lease,
        opened_telemetry(name, session.config.log, session.stored.configuration) as session.progress.observers,
        opened_curves(session.stored, endpoints(session.progress.observers)) as session.curves,
    ):
        ForecastStore(runs.database).record(name, ahead)
        runs.set_state(name, RunState.RUNNING)
        for endpoint in endpoints(session.progress.observers):
            session.progress.say(f"metrics: {endpoint.address}")
        folder = session.files.curves
        if set(session.config.log.to) - {"otlp"} and (
            folder.is_dir() or not folder.exists()
        ):  # nothing else is in its place
            session.progress.say(f"curves: {opening(folder)}")
        try:
            anything_done = False
            for stage, work in _plan(session, only):
                lease.check()  # what a stage writes outside of the database is not fenced
                result, done = _once(session, stage, work, again=anything_done and stage == "report")
                anything_done |= done
        except BaseException as error:
            if is_interrupt(error):
                runs.set_state(name, RunState.STOPPED)
            else:
                runs.set_state(name, RunState.FAILED, error=f"{type(error).__name__}: {reason(error)}")
            raise
        runs.set_state(name, RunState.FINISHED if "report" in session.stored.results else RunState.STOPPED)
    return result


def look_ahead(session: Session, only: str | None = None) -> Forecast:
    """Check a run as `run_stages` does, and say how long it would take and what it would write; nothing is started.

    Raises:
        InputError: if the run cannot work as it is described.
    """
    check_run(session, only)
    session.keep_code()
    return forecast(session, only)


def _plan(session: Session, only: str | None) -> Iterator[tuple[str, Callable[[], StageResult]]]:
    """The stages of a whole run, or of one command, by their names in the database, each when its turn comes."""
    for name, stage in STAGES.items():
        if not stage.wanted(session) or only not in (None, name, stage.command):
            continue
        parts = [()] if stage.parts is None else [(part,) for part in stage.parts(session)]
        for part in parts:
            full, work = ":".join((name, *part)), partial(stage.run, session, *part)
            yield full, work if session.stored.searched is None else partial(take_over, session, full, work)


def _once(
    session: Session, stage: str, work: Callable[[], StageResult], *, again: bool = False
) -> tuple[StageResult, bool]:
    """The result of a stage, and whether it was run now.

    A stage that has finished is run again if its files or its weights were removed since; weights must come out the
    same then if other stages have used them.
    """
    stored = session.stored
    results = stored.results
    known = results.named(stage)
    before = known.weights if isinstance(known, TrainedResult) else None
    lost = before is not None and before not in session.store
    damage = None if known is None else stored.damage(stage, results)
    if known is not None and not lost and not again and damage is None:
        session.files.forget_checkpoint(stage)
        return known, False
    if lost:
        session.progress.say(
            f"the weights of stage {stage!r} are not in the weight store {session.store.name}: running it again"
        )
    if damage is not None:
        _log.warning("%s: making it again", damage)
    with session.progress.stage(stage):
        result = work()
        if lost and before is not None:
            _check_same(stage, before, result, results)
        stored.save(stage, result)
    session.curves.add(database_rows(stored))
    session.curves.settle()
    session.files.forget_checkpoint(stage)
    return result, True


def _check_same(stage: str, before: str, result: StageResult, results: Results) -> None:
    """Refuse other weights than those, now gone, that later stages have used."""
    used_by = ("search",) if stage == "train" else ("test", "export")
    if not isinstance(result, TrainedResult) or result.weights == before or not any(one in results for one in used_by):
        return
    raise RunError(
        f"stage {stage!r} was run again because its weights were gone, and ended in other weights "
        f"({result.weights[:12]}, before {before[:12]}); what later stages found does not belong to them. Put the old "
        "weights back, or start over with --fresh"
    )
