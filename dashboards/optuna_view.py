"""The database as Optuna's dashboard is shown it: every run from its first second, with a note of how far it is."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import select

from dashboards.markdown import NOTE_TEXT, above, plain
from dashboards.own_note import head, joined
from dashboards.pages.figures_page import Figures
from dashboards.pages.numbers import MISSING
from dashboards.pages.reading import Reader
from dashboards.pages.runs_page import RunLine, context
from dashboards.trial_notes import NotedTrials, TrialNotes
from glorasearch.db import RunRecord, RunState, StageState, SummarisingStorage, TrialStorage
from glorasearch.db.models import RunRow, table_of
from glorasearch.db.objective_names import METRIC_NAMES, objective_in_words, objective_names
from glorasearch.quantities import took
from glorasearch.runs.watched import WatchedStage, recorded_fitness
from glorasearch.search.trials import direction

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

_FIRST: Final = 1_000_000_000
"""Studies of runs whose search has not begun have the id of the run and this: beyond those of all others."""
_KEPT_SECONDS: Final = 1.0
"""For so long what was read of the runs is shown: a page asks for it in several requests."""
_NOTE: Final = ("dashboard:note_ver", f"dashboard:{NOTE_TEXT}0")
"""Optuna's system attributes of the note of a study."""
_ENDED: Final = (RunState.STOPPED, RunState.FAILED, RunState.INTERRUPTED)
_LEFT: Final = (StageState.STOPPED, StageState.FAILED, StageState.INTERRUPTED)
"""How a stage stands that such a run was in when it ended."""
_asked: ContextVar[int | None] = ContextVar("asked", default=None)
"""The study that the request under way is about: only its note has figures, which take a moment to know."""
_runs = table_of(RunRow)


class RunsView(SummarisingStorage):
    """The summarising view, with a study for every run, a state beside each name, and a note. Nothing is written.

    A run whose search has not begun is a study without trials; `begun` says which study it has become.
    """

    def __init__(self, reader: Reader, figures: Figures) -> None:
        super().__init__(reader.database)
        self._reader, self._figures = reader, figures
        self._stages: dict[str, tuple[Any, str]] = {}
        self._notes: dict[str, tuple[Any, TrialNotes]] = {}
        self._reading = threading.Lock()
        self._read: tuple[float, dict[str, RunLine], dict[int, str]] = (-1.0, {}, {})

    def get_all_studies(self) -> list[FrozenStudy]:
        """All studies by id, and then the runs whose search has not begun; each run with its state and its note."""
        lines, ids = self._lines()
        found = super().get_all_studies()
        known = {study.study_name for study in found}
        for study in found:
            if study.study_name in lines:
                line, asked = lines[study.study_name], study._study_id == _asked.get()
                attrs = self._noted(study.system_attrs, line, figures=asked)
                notes = self._notes_of(line.record) if asked else None
                study.system_attrs = attrs if notes is None else NotedTrials(attrs, notes)
                study.study_name = _titled(line)
        for run_id, name in sorted(ids.items()):
            if name in lines and name not in known:
                found.append(self._waiting(_FIRST + run_id, lines[name]))
        return found

    @contextmanager
    def asked(self, study_id: int) -> Iterator[None]:
        """Within it, the note of this study has the figures of its run."""
        token = _asked.set(study_id)
        try:
            yield
        finally:
            _asked.reset(token)

    def begun(self, study_id: int) -> int:
        """The study of a run whose search has begun since its page was opened; other ids as they are."""
        name = self._lines()[1].get(study_id - _FIRST)
        if name is None:
            return study_id
        try:
            return self.get_study_id_from_name(name)
        except KeyError:
            return study_id

    def run_of(self, study_id: int) -> str | None:
        """The name of the run that a study is of; None if it is of none."""
        lines, ids = self._lines()
        name = ids.get(study_id - _FIRST)
        if name is None:
            try:
                name = self.get_study_name_from_id(study_id)
            except KeyError:
                return None
        return name if name in lines else None

    def note_of(self, study_id: int) -> dict[str, Any]:
        """The note of a study as its page has it: version and body."""
        attrs = self.get_study_system_attrs(study_id)
        version, text = _NOTE
        return {"version": attrs[version], "body": attrs[text]}

    def forget(self) -> None:
        """Read the runs anew: something has changed them."""
        with self._reading:
            self._read = (-1.0, {}, {})

    def get_study_name_from_id(self, study_id: int) -> str:
        """The name of a study."""
        line = self._waiting_line(study_id)
        return super().get_study_name_from_id(study_id) if line is None else line.record.name

    def get_study_id_from_name(self, study_name: str) -> int:
        """The id of the study of that name."""
        try:
            return super().get_study_id_from_name(study_name)
        except KeyError:
            for run_id, name in self._lines()[1].items():
                if name == study_name:
                    return _FIRST + run_id
            raise

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Whether each objective is minimised or maximised."""
        line = self._waiting_line(study_id)
        return super().get_study_directions(study_id) if line is None else _directions(line)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """The user attributes."""
        return super().get_study_user_attrs(study_id) if self._waiting_line(study_id) is None else {}

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """The system attributes (Optuna's), with the note."""
        line = self._waiting_line(study_id)
        if line is not None:
            return self._waiting(study_id, line).system_attrs
        attrs = super().get_study_system_attrs(study_id)
        found = self._lines()[0].get(super().get_study_name_from_id(study_id))
        return attrs if found is None else self._noted(attrs, found, figures=study_id == _asked.get())

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The summaries of a study's trials by number."""
        return [] if self._waiting_line(study_id) is not None else super().get_all_trials(study_id, deepcopy, states)

    def _waiting_line(self, study_id: int) -> RunLine | None:
        """The run that a study without trials stands for."""
        if study_id < _FIRST:
            return None
        lines, ids = self._lines()
        return lines.get(ids.get(study_id - _FIRST, ""))

    def _lines(self) -> tuple[dict[str, RunLine], dict[int, str]]:
        """Name → line in the list of runs, and id → name."""
        with self._reading:
            until, lines, ids = self._read
            if time.monotonic() >= until:
                lines = {line.record.name: line for line in context(self._reader)["lines"]}
                with self.database.read() as connection:
                    ids = {row.id: row.name for row in connection.execute(select(_runs.c.id, _runs.c.name))}
                self._read = (time.monotonic() + _KEPT_SECONDS, lines, ids)
            return lines, ids

    def _waiting(self, study_id: int, line: RunLine) -> FrozenStudy:
        directions = _directions(line)
        names = objective_names({"search": line.record.config.get("search")}, len(directions))
        attrs = {} if names is None else {METRIC_NAMES: names}
        return FrozenStudy(
            study_name=_titled(line),
            direction=None,
            directions=directions,
            user_attrs={},
            system_attrs=self._noted(attrs, line, figures=study_id == _asked.get()),
            study_id=study_id,
        )

    def _noted(self, attrs: dict[str, Any], line: RunLine, *, figures: bool) -> dict[str, Any]:
        note = _note(line, _stage(line) or self._last_stage(line.record))
        if figures:
            note += _pictures(line.record, self._figures.titles(line.record))
        shown = joined(line.note.text, note, editable=self._reader.editable)
        return _with_note(attrs, shown, line.note.version)

    def _notes_of(self, record: RunRecord) -> TrialNotes | None:
        """The notes of the trials of a run; those of before, if its search stands as it did."""
        search = self._reader.search(record)
        if search is None:
            return None

        def genes() -> dict[int, dict[str, str]]:
            return {
                one._trial_id: one.params for one in TrialStorage.get_all_trials(self, search.study_id, deepcopy=False)
            }

        state = (record.updated, record.state, [(one.trial_id, one.state) for one in search.trials])
        found = self._notes.get(record.name)
        if found is None or found[0] != state:
            found = self._notes[record.name] = (state, TrialNotes(record, search, genes))
        return found[1]

    def _last_stage(self, record: RunRecord) -> str:
        """The stage in which a run ended, or the last that it has finished."""
        key = (record.updated, record.state, tuple(record.stages))
        found = self._stages.get(record.name)
        if found is None or found[0] != key:
            rows = self._reader.runs.progress(record.name) if record.state in _ENDED else []
            last = max((row for row in rows if row.state in _LEFT), key=lambda row: row.started, default=None)
            if last is not None:
                text = f"{_counted(WatchedStage(stage=last.stage, state=last.state, progress=last))}, {last.state}"
            else:
                text = f"{[*record.stages][-1]}, finished" if record.stages else MISSING
            found = self._stages[record.name] = (key, text)
        return found[1]


def _directions(line: RunLine) -> list[StudyDirection]:
    search = line.record.config.get("search")
    named = search.get("objectives") if isinstance(search, dict) and search.get("sampler") == "nsga2" else None
    try:
        return [direction(name) for name in named or [recorded_fitness(line.record)]]
    except (KeyError, TypeError, ValueError):  # of another version
        return [StudyDirection.MAXIMIZE]


def _titled(line: RunLine) -> str:
    """The name of a run and how it stands, as in the list."""
    return f"{line.record.name} · {_stage(line) or line.record.state}"


def _stage(line: RunLine) -> str:
    """What is under way: `train 40/400 steps`."""
    return "" if line.current is None else _counted(line.current)


def _counted(stage: WatchedStage) -> str:
    row = stage.progress
    if row is None:
        return ""
    return f"{stage.stage} {row.done:,}/{row.total:,} {stage.unit}".strip() if row.total else row.stage


def _with_note(attrs: dict[str, Any], note: str, number: int) -> dict[str, Any]:
    """System attributes with the note and its version; one that a program of Optuna's has written stands below it."""
    version, text = _NOTE
    prefix = text.removesuffix("0")
    others = {key: value for key, value in attrs.items() if not key.startswith(prefix)}
    return others | {version: number, text: above(note, attrs, prefix)}


def _note(line: RunLine, stage: str) -> str:
    record = line.record
    address = f"/runs/{quote(record.name, safe='')}"
    age = took(max(0.0, (datetime.now(UTC) - record.created).total_seconds()))
    rows = {
        "State": record.state if not record.error else f"{record.state}: {record.error}",
        "Stage": stage,
        "Age": age,
        "Backbone": line.backbone or MISSING,
        "Data": line.data or MISSING,
        "Search space": line.space or MISSING,
        "Best score": f"{line.best} ({objective_in_words(recorded_fitness(record))})" if line.best else MISSING,
    }
    said = "\n".join(f"| {key} | {plain(str(value))} |" for key, value in rows.items())
    return (
        f"{head(record.name)}\n|---|---|\n{said}\n\n"
        f"[The page of the run]({address}): its stages, figures, race and winner. [All runs](/runs)"
    )


def _pictures(record: RunRecord, titles: Mapping[str, str]) -> str:
    """The figures, which the browser fetches one by one after the page."""
    folder = f"/runs/{quote(record.name, safe='')}/figures"
    return "".join(f"\n\n### {plain(title)}\n\n![{plain(title)}]({folder}/{key}.png)" for key, title in titles.items())
