"""How the searches of many runs went, by their first objective: a query for all of them, and none of their genes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from dashboards.pages.plots import sparkline
from glorasearch.db import Database, RunRecord, RunState
from glorasearch.db.models import MetricRow, RunRow, StudyRow, TrialRow, table_of

_studies, _trials, _runs, _metrics = map(table_of, (StudyRow, TrialRow, RunRow, MetricRow))
_OVER = (RunState.FINISHED, RunState.FAILED, RunState.STOPPED)


@dataclass(frozen=True, slots=True)
class Course:
    """What a line of the list shows of a search, or of the training before it."""

    best: float | None
    """Of the first objective, over the trials that were evaluated to the end."""
    spark: str
    """The path of a sparkline."""
    of: str
    """What that shows."""


class Courses:
    """The courses of a database's runs; those of runs that are over are kept. Threads may share it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: dict[str, tuple[object, Course]] = {}
        self._lock = threading.Lock()

    def of(self, records: Sequence[RunRecord]) -> dict[str, Course]:
        """Name → course of every run."""
        with self._lock:
            wanted = [one for one in records if self._kept.get(one.name, (None,))[0] != _key(one)]
            for name, course in self._read([one.name for one in wanted]).items():
                record = next(one for one in wanted if one.name == name)
                self._kept[name] = (_key(record) if record.state in _OVER else None, course)
            return {one.name: self._kept[one.name][1] for one in records}

    def _read(self, names: Sequence[str]) -> dict[str, Course]:
        if not names:
            return {}
        searched: dict[str, list[float]] = {name: [] for name in names}
        losses: dict[str, list[float]] = {name: [] for name in names}
        falling: dict[str, bool] = {}
        values = (
            select(_studies.c.name, _studies.c.directions, _trials.c.objectives)
            .join(_trials, _trials.c.study_id == _studies.c.id)
            .where(_studies.c.name.in_(names), _trials.c.state == "complete")
            .order_by(_trials.c.study_id, _trials.c.finished, _trials.c.number)
        )
        trained = (
            select(_runs.c.name, _metrics.c.value)
            .join(_metrics, _metrics.c.run_id == _runs.c.id)
            .where(_runs.c.name.in_(names), _metrics.c.stage == "train", _metrics.c.name == "loss")
            .order_by(_runs.c.id, _metrics.c.step)
        )
        with self._database.read() as connection:
            for name, directions, objectives in connection.execute(values):
                if objectives:
                    falling[name] = directions[0].lower() == "minimize"
                    searched[name].append(objectives[0])
            for name, value in connection.execute(trained):
                if value is not None:
                    losses[name].append(value)
        return {name: _course(searched[name], losses[name], falling.get(name, False)) for name in names}


def _key(record: RunRecord) -> object:
    return (record.updated, record.state, record.created)


def _course(found: Sequence[float], losses: Sequence[float], falling: bool) -> Course:
    best: list[float] = []
    for value in found:
        best.append(value if not best else min(best[-1], value) if falling else max(best[-1], value))
    spark = sparkline(best)
    if spark:
        return Course(best[-1], spark, "best of the search")
    return Course(best[-1] if best else None, sparkline(losses), "loss of the supernet")
