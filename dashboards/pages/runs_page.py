"""The list of runs: a line each, those under way with how far they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from dashboards.pages.courses import Course
from dashboards.pages.numbers import worth_text
from dashboards.pages.reading import Reader
from glorasearch.db import RunNote, RunRecord, RunState
from glorasearch.db.notes import NO_NOTE
from glorasearch.runs.compare import Row
from glorasearch.runs.watched import Watched, WatchedStage, recorded_fitness, setting

FAST, SLOW = 2, 20
"""Seconds between two looks of a browser at a run: while it is under way, and else."""
IDLE: Final = 5
"""Likewise at the list while none is: a run that begins is to be seen."""
NOTED: Final = 100
"""Characters of a note in the list."""
_LIVE: Final = (RunState.RUNNING, RunState.CREATED)


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run in the list."""

    record: RunRecord
    row: Row | None
    current: WatchedStage | None
    """The stage under way."""
    backbone: str
    data: str
    space: str
    best: str
    """The fitness of the best trial."""
    course: Course
    seconds: float | None
    """Of training and search."""
    note: RunNote = NO_NOTE

    @property
    def noted(self) -> str:
        """The first line of the note."""
        line, _, more = self.note.text.partition("\n")
        cut = line[:NOTED].rstrip()
        return f"{cut} …" if more or cut != line else line


def context(reader: Reader) -> dict[str, Any]:
    """What the template of the list needs."""
    records = reader.runs.list()
    damaged = reader.damaged() if len(records) < _recorded(reader) else {}
    courses = reader.courses.of(records)
    notes = reader.notes.all()
    lines = [
        _line(reader, record, courses[record.name], notes.get(record.name, NO_NOTE)) for record in reversed(records)
    ]
    busy = any(line.record.state in _LIVE for line in lines)
    return {"lines": lines, "damaged": damaged, "editable": reader.editable, "live": FAST if busy else IDLE}


def _recorded(reader: Reader) -> int:
    """Runs in the database, readable or not."""
    from sqlalchemy import func, select

    from glorasearch.db.models import RunRow, table_of

    with reader.database.read() as connection:
        return connection.scalar(select(func.count()).select_from(table_of(RunRow))) or 0


def _line(reader: Reader, record: RunRecord, course: Course, note: RunNote) -> RunLine:
    row = reader.row(record)
    current = Watched.read(reader.runs, record.name).current if record.state in _LIVE else None
    parts = [] if row is None else [one for one in (row.training_seconds, row.search_seconds) if one is not None]
    return RunLine(
        record=record,
        row=row,
        current=current,
        backbone=setting(record.config, "backbone", "name") or "",
        data=setting(record.config, "data", "source") or "",
        space=setting(record.config, "space", "name") or "",
        best="" if course.best is None else worth_text(recorded_fitness(record), course.best),
        course=course,
        seconds=sum(parts) if parts else None,
        note=note,
    )
