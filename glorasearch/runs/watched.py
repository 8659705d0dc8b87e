"""How a run stands at one moment, by the database alone. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

from glorasearch.db import (
    ForecastStore,
    RunRecord,
    RunState,
    RunStore,
    StageProgress,
    StageState,
    WorkerRecord,
    WorkerStore,
)
from glorasearch.errors import RunNotFoundError, did_you_mean
from glorasearch.runs.paths import public_name
from glorasearch.runs.results import FormatResult, TrainResult
from glorasearch.runs.scores import scores

if TYPE_CHECKING:
    from glorasearch.space import Fitness
    from glorasearch.tasks.kinds import TaskKind

_UNITS: Final = {"search": "trials", "search:chance": "trials", "test": "models", "export": ""}
"""Stage → what it counts, where that is not steps."""
_STARTING: Final = 60.0
"""Seconds between the record of a run and the first heartbeat of its process, at most."""


def stage_label(stage: str) -> str:
    """What a stage is called where people read it: `format:onnx` is the `export to onnx`, others are as they are."""
    kind, _, part = stage.partition(":")
    return f"export to {part}" if kind == FormatResult.stage else stage


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchedStage:
    """A stage of a run, begun or not."""

    stage: str
    state: str
    """A `StageState`, or `waiting`."""
    progress: StageProgress | None = None
    """None if it has not begun, or was finished by an earlier version."""
    seconds: float = 0.0
    """From the start of its latest attempt to its end, or to the last that is known of the run; 0 if nothing is."""

    @property
    def label(self) -> str:
        """What it is called where people read it."""
        return stage_label(self.stage)

    @property
    def unit(self) -> str:
        """What is counted; empty if nothing is, or if it is a share."""
        row = self.progress
        if row is None or not row.total or "%" in row.title:
            return ""
        return _UNITS.get(self.stage, "steps")

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        row = self.progress
        found: dict[str, Any] = {"stage": self.stage, "state": str(self.state)}
        if row is None:
            return found | ({"title": self.label, "seconds": self.seconds} if self.seconds else {})
        return found | {
            "title": row.title,
            "note": row.note,
            "done": row.done,
            "total": row.total,
            "unit": self.unit,
            "per_second": row.rate,
            "seconds": self.seconds,
            "seconds_left": row.seconds_left(row.updated),
            "started": row.started.isoformat(),
            "updated": row.updated.isoformat(),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """A run at one moment."""

    record: RunRecord
    stages: tuple[WatchedStage, ...]
    """In the order in which they run, those that wait at the end."""
    workers: tuple[WorkerRecord, ...] = ()
    """Those that evaluate candidates; after the search, as they were at its end."""
    forecast: Mapping[str, float] = field(default_factory=dict)
    """Stage → seconds that it takes, at most, as measured when the run began; all baselines are one stage."""

    @classmethod
    def read(cls, runs: RunStore, name: str) -> Watched:
        """How a run stands now.

        Raises:
            RunNotFoundError: if there is no run of that name.
        """
        record = runs.get(name)
        if record is None:
            known = [run.name for run in runs.list()]
            raise RunNotFoundError(
                f"there is no run {name!r}{did_you_mean(name, known)}; known are: {', '.join(known[-10:]) or 'none'}"
            )
        stages = _stages(record, {row.stage: row for row in runs.progress(name)})
        workers = tuple(WorkerStore(runs.database).list(name))
        return cls(record=record, stages=stages, workers=workers, forecast=ForecastStore(runs.database).of(name))

    @property
    def under_way(self) -> bool:
        """Whether a process works on it, or is about to."""
        age = (datetime.now(UTC) - self.record.created).total_seconds()
        return self.record.state is RunState.RUNNING or (self.record.state is RunState.CREATED and age < _STARTING)

    @property
    def failed(self) -> bool:
        """Whether it ended otherwise than by finishing or on request."""
        return self.record.state in (RunState.FAILED, RunState.INTERRUPTED)

    @property
    def current(self) -> WatchedStage | None:
        """The stage, or the part of one, that is under way."""
        running = [one for one in self.stages if one.state == StageState.RUNNING and one.progress is not None]
        return max(running, key=lambda one: one.progress.started if one.progress else self.record.created, default=None)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the run ends, at most; None where nothing is known.

        A training of the supernet takes as long as its own count says. Another stage under way, which may count only a
        part of what it does, takes what is left of its forecast where that is more; those ahead what was forecast.
        """
        if not self.under_way or not self.forecast:
            return None
        groups: dict[str, list[WatchedStage]] = {}
        for one in self.stages:
            groups.setdefault(_group(one.stage), []).append(one)
        return sum(_left(groups.get(stage, ()), seconds) for stage, seconds in self.forecast.items())

    @property
    def best(self) -> str:
        """What is known of the best: of the race if there is one, else of the search."""
        notes = {one.stage: one.progress.note for one in self.stages if one.progress is not None}
        return notes.get("race") or notes.get("search") or ""

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        record, owner = self.record, self.record.owner
        return {
            "run": record.name,
            "state": str(record.state),
            "error": record.error,
            "under_way": self.under_way,
            "process": None if owner is None else {"host": owner.host, "pid": owner.pid},
            "created": record.created.isoformat(),
            "seconds_left": self.seconds_left,
            **{key: setting(record.config, *place) for key, place in _NAMED.items()},
            "best": self.best,
            **scores(record),
            "workers": [asdict(one) | {"share": one.share} | _times(one) for one in self.workers],
            "stages": [stage.to_json() for stage in self.stages],
        }


def _group(stage: str) -> str:
    """The stage of a forecast that a stage, or a part of one, belongs to."""
    return stage.partition(":")[0]


def _left(stages: Sequence[WatchedStage], forecast: float) -> float:
    """Seconds that the stages of one forecast still take."""
    open_ones = [one for one in stages if one.state in (StageState.RUNNING, "waiting")]
    if not open_ones:
        return 0.0
    own = 0.0
    for one in open_ones:
        counted = None if one.progress is None else one.progress.seconds_left(one.progress.updated)
        if counted is not None and one.stage == TrainResult.stage:
            return counted
        own = max(own, counted or 0.0)
    return max(own, forecast - sum(one.seconds for one in stages))


def _times(worker: WorkerRecord) -> dict[str, str]:
    return {"since": worker.since.isoformat(), "updated": worker.updated.isoformat()}


_NAMED: Final = {"backbone": ("backbone", "name"), "data": ("data", "source"), "space": ("space", "name")}


def setting(config: Mapping[str, Any], section: str, key: str) -> str | None:
    """An entry of a recorded configuration, which may be any JSON object, by its public name; None if not given."""
    table = config.get(section)
    found = table.get(key) if isinstance(table, dict) else None
    return None if found is None else public_name(str(found))


def recorded_fitness(record: RunRecord) -> Fitness:
    """What the search of a run optimises; accuracy if its configuration does not say."""
    return cast("Fitness", setting(record.config, "search", "fitness") or "accuracy")


def recorded_task(record: RunRecord) -> TaskKind:
    """What a run asks of an image; which class, if its configuration does not say."""
    return cast("TaskKind", setting(record.config, "data", "task") or "classify")


def newest_under_way(runs: RunStore) -> str:
    """The name of the run that began last of those that a process works on.

    Raises:
        RunNotFoundError: if there is none.
    """
    known = runs.list()
    found = [run.name for run in known if run.state is RunState.RUNNING]
    if not found:
        newest = ", ".join(run.name for run in reversed(known[-5:]))
        were = f"name one of those that were: {newest}" if newest else "there is none at all"
        raise RunNotFoundError(f"no run is under way here; {were}")
    return found[-1]


def planned(config: Mapping[str, Any]) -> list[str]:
    """The stages that a recorded configuration asks for, in order, as far as it says them."""

    def of(section: str) -> Mapping[str, Any]:
        table = config.get(section)
        return table if isinstance(table, dict) else {}

    piloted = of("train").get("lr") == "auto"
    race = bool(of("race").get("enabled"))
    named = of("report").get("baselines")
    baselines = [f"baseline:{name}" for name in named] if isinstance(named, (list, dict)) else []
    return [
        *(["pilot"] if piloted else []), "train", "search", *(["race"] if race else []), "refit", *baselines,
        "test", "export", "report",
    ]  # fmt: skip


def _stages(record: RunRecord, rows: Mapping[str, StageProgress]) -> tuple[WatchedStage, ...]:
    unseen = [stage for stage in record.stages if stage not in rows]  # formats, and what earlier versions finished
    formats = [stage for stage in unseen if stage.startswith(f"{FormatResult.stage}:")]
    found = [WatchedStage(stage=stage, state=StageState.FINISHED) for stage in unseen if stage not in formats]
    latest = max((row.updated for row in rows.values()), default=record.updated)
    for stage, row in rows.items():
        end = latest if row.state in (StageState.RUNNING, StageState.INTERRUPTED) else row.updated
        seconds = max(0.0, (end - row.started).total_seconds())
        found.append(WatchedStage(stage=stage, state=row.state, progress=row, seconds=seconds))
    for stage in formats:
        took = record.stages[stage].get("seconds") or 0.0
        found.append(WatchedStage(stage=stage, state=StageState.FINISHED, seconds=took))
    if record.state is RunState.FINISHED:
        return tuple(found)
    waiting = [stage for stage in planned(record.config) if stage not in rows and stage not in record.stages]
    return (*found, *(WatchedStage(stage=stage, state="waiting") for stage in waiting))
