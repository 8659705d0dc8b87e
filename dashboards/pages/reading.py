"""What the pages read of a database: runs, and the trials of their searches without the genes."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from optuna.trial import FrozenTrial, TrialState

from dashboards.pages.courses import Courses
from glorasearch.db import Database, NoteStore, RunRecord, RunState, RunStore, TrialStorage
from glorasearch.errors import DamagedRowError, GlorasearchError, SearchError
from glorasearch.runs.compare import Row
from glorasearch.runs.watched import recorded_fitness
from glorasearch.search.trials import PARAMETERS, PARENTS, REASON, START, TrialRecord, has_score, rank, worth

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import URL

    from glorasearch.space import Fitness

_STATES: Final = {TrialState.RUNNING: "running", TrialState.WAITING: "waiting", TrialState.FAIL: "failed"}


@dataclass(frozen=True, slots=True)
class Outline:
    """A trial without its genes."""

    number: int
    trial_id: int
    state: str
    """`evaluated`, `reused`, `stopped early`, `failed`, `running` or `waiting`."""
    parameters: int | None
    fitness: float | None
    """Of a trial that was stopped early its bound."""
    accuracy: float | None
    start: str
    parents: tuple[int, ...]
    reason: str
    """Why it failed."""
    finished: datetime | None
    record: TrialRecord | None

    @property
    def full(self) -> bool:
        """Whether it was evaluated to the end."""
        return self.record is not None and not self.record.score.stopped_early


@dataclass(frozen=True, slots=True)
class Search:
    """The trials of a run's search."""

    study_id: int
    fitness: Fitness
    trials: tuple[Outline, ...]
    best: Outline | None

    def best_so_far(self) -> list[tuple[float, float]]:
        """(Finished trials, the best fitness then), each time that it changes, and at the end."""
        found: list[tuple[float, float]] = []
        best: TrialRecord | None = None
        done = sorted((one for one in self.trials if one.finished), key=lambda one: (str(one.finished), one.number))
        for count, one in enumerate(done, 1):
            record = one.record
            if record is None or not one.full:
                continue
            if best is None or rank(self.fitness, record) < rank(self.fitness, best):
                best = record
            found.append((float(count), worth(self.fitness, best.score)))
        return found


class Reader:
    """A database as the pages see it; never written. Threads may share it.

    Args:
        database_url: of the database.
        folder: where the runs' folders are, if files are to be offered.
        editable: whether pages lead to the forms that change a run.
    """

    def __init__(self, database_url: str | URL, folder: Path | None = None, *, editable: bool = False) -> None:
        self.database = Database(database_url, read_only=True)
        self.runs = RunStore(self.database)
        self.storage = TrialStorage(self.database)
        self.courses = Courses(self.database)
        self.notes = NoteStore(self.database)
        self.folder = folder
        self.editable = editable
        self._searches: dict[str, tuple[Any, Search | None]] = {}
        self._rows: dict[str, tuple[Any, Row | None]] = {}
        self._lock = threading.Lock()

    def row(self, record: RunRecord) -> Row | None:
        """The results of a run, one number each; None if they cannot be read."""
        key = (record.updated, record.state, tuple(record.stages))
        found = self._rows.get(record.name)
        if found is None or found[0] != key:
            try:
                row = Row.of(record)
            except (GlorasearchError, KeyError, TypeError):  # damaged, or of another version
                row = None
            found = self._rows[record.name] = (key, row)
        return found[1]

    def search(self, record: RunRecord) -> Search | None:
        """The trials of a run's search; None if it has none."""
        over = record.state not in (RunState.RUNNING, RunState.CREATED)
        key = (record.updated, record.digest, record.created)
        with self._lock:
            found = self._searches.get(record.name)
            if over and found is not None and found[0] == key:
                return found[1]
        search = self._read_search(record)
        with self._lock:
            self._searches[record.name] = (key, search)
        return search

    def _read_search(self, record: RunRecord) -> Search | None:
        fitness = recorded_fitness(record)
        try:
            study_id = self.storage.get_study_id_from_name(record.name)
            trials = tuple(_outline(trial, fitness) for trial in self.storage.outlines(study_id))
        except KeyError:
            return None
        ranked = [(rank(fitness, one.record), one) for one in trials if one.record is not None and one.full]
        best = min(ranked, key=lambda pair: pair[0])[1] if ranked else None
        return Search(study_id, fitness, trials, best)

    def genes(self, trial_id: int) -> dict[str, str]:
        """Gene, such as `blocks.0.attn.qkv.B`, → choice of a trial; genes with one choice are left out."""
        return {name: str(choice) for name, choice in self.storage.get_trial(trial_id).params.items()}

    def damaged(self) -> dict[str, str]:
        """Name → what is wrong, for runs that cannot be read."""
        return self.runs.damaged()

    def record(self, name: str) -> RunRecord | None:
        """The run of that name; None, too, if it is damaged."""
        try:
            return self.runs.get(name)
        except DamagedRowError:
            return None


def _outline(trial: FrozenTrial, fitness: Fitness) -> Outline:
    attrs, record = trial.user_attrs, None
    if has_score(trial):
        try:
            record = TrialRecord.from_attrs(trial.number, attrs)
        except SearchError:  # of an earlier version
            record = None
    state = _STATES.get(trial.state, "evaluated")
    if record is not None and record.score.stopped_early:
        state = "stopped early"
    elif record is not None and record.reused_from is not None:
        state = "reused"
    return Outline(
        number=trial.number,
        trial_id=trial._trial_id,
        state=state,
        parameters=attrs.get(PARAMETERS),
        fitness=None if record is None else worth(fitness, record.score),
        accuracy=record.score.accuracy if record is not None and record.score.right_or_wrong else None,
        start=str(attrs.get(START) or ""),
        parents=tuple(attrs.get(PARENTS, ())),
        reason=str(attrs.get(REASON) or ""),
        finished=trial.datetime_complete,
        record=record,
    )
