"""What people note of runs: a text each, whose versions tell a writer that somebody else has written meanwhile."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import URL, Connection, select, type_coerce, update
from sqlalchemy.types import NullType

from glorasearch.db.columns import DamagedCellError
from glorasearch.db.damage import damaged_cells, describe
from glorasearch.db.database import Database, as_database
from glorasearch.db.models import NoteRow, RunRow, table_of
from glorasearch.db.retry import retried
from glorasearch.db.runs import run_id_of
from glorasearch.errors import ChangedMeanwhileError, DamagedRowError, InputError

MOST: Final = 10_000
"""Characters of a note."""
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What no note has: control characters but tab and line feed, those that reorder text, halves of characters."""
_notes, _runs = table_of(NoteRow), table_of(RunRow)


@dataclass(frozen=True, slots=True)
class RunNote:
    """The note of a run."""

    text: str
    """Empty if there is none."""
    version: int
    """0 before the first was written."""
    changed: datetime | None


NO_NOTE: Final = RunNote("", 0, None)
"""Of a run of which nobody has ever noted anything."""


class NoteStore:
    """The notes of a database's runs, one each. Every method is one transaction.

    Raises (`of`, `version` and `write`):
        RunNotFoundError: if there is no run of that name.
    """

    def __init__(self, database: str | URL | Database) -> None:
        self._database = as_database(database)

    @retried
    def of(self, run: str) -> RunNote:
        """The note of a run.

        Raises:
            DamagedRowError: if it cannot be read; writing another one mends that.
        """
        wanted = select(_notes.c.text, _notes.c.version, _notes.c.changed)
        with self._database.read() as connection:
            row = connection.execute(wanted.where(_notes.c.run_id == run_id_of(connection, run))).first()
        return NO_NOTE if row is None else RunNote(*row)

    @retried
    def all(self) -> dict[str, RunNote]:
        """Run → its note, of the runs that have one that can be read, or had one."""
        columns = (_runs.c.name, _notes.c.text, _notes.c.version, _notes.c.changed)
        wanted = select(*columns).join_from(_notes, _runs)
        with self._database.read() as connection:
            try:
                rows = connection.execute(wanted).all()
            except DamagedCellError:
                bad = {cell.owner_id or 0 for cell in damaged_cells(connection, _notes, _runs)}
                rows = connection.execute(wanted.where(_runs.c.id.not_in(bad))).all()
        return {name: RunNote(*row) for name, *row in rows}

    @retried
    def damaged(self) -> dict[str, str]:
        """Run → what is wrong with its note, of the notes that cannot be read."""
        with self._database.read() as connection:
            cells = [cell for cell in damaged_cells(connection, _notes) if cell.owner is not None]
        names = dict.fromkeys(str(cell.owner) for cell in cells)
        return {name: str(describe(cell for cell in cells if cell.owner == name)) for name in names}

    def readable(self, run: str) -> tuple[str, str]:
        """The note of a run and what is wrong with it, one of them empty."""
        try:
            return self.of(run).text, ""
        except DamagedRowError as error:
            return "", str(error)

    @retried
    def version(self, run: str) -> int:
        """The version of the note of a run, which may be damaged."""
        with self._database.read() as connection:
            return _version(connection, run_id_of(connection, run)) or 0

    def write(self, run: str, text: str, expected: int | None = None) -> RunNote:
        """Replace the note of a run.

        Args:
            run: its name.
            text: of the note; empty to delete it.
            expected: the version that was read. None replaces whatever there is.

        Raises:
            InputError: if the text is too long, or no text.
            ChangedMeanwhileError: if the version is another one by now; nothing is written then.
        """
        return self._write(run, checked_text(text), expected)

    @retried
    def _write(self, run: str, text: str, expected: int | None) -> RunNote:
        with self._database.write() as connection:
            # One writer after the other, on PostgreSQL too; rows that refer to the run can be added meanwhile.
            one_by_one = select(_runs.c.id).where(_runs.c.name == run).with_for_update(key_share=True)
            run_id = connection.scalar(one_by_one) or run_id_of(connection, run)
            found = _version(connection, run_id)
            if expected is not None and expected != (found or 0):
                raise ChangedMeanwhileError(
                    f"the note of run {run!r} was changed by somebody else after you read it; nothing was written: "
                    "read it again"
                )
            note = RunNote(text, (found or 0) + 1, datetime.now(UTC))
            values = {"text": note.text, "version": note.version, "changed": note.changed}
            if found is None:
                connection.execute(_notes.insert(), values | {"run_id": run_id})
            else:
                connection.execute(update(_notes).where(_notes.c.run_id == run_id).values(values))
        return note


def checked_text(text: str) -> str:
    """A note as it is kept: lines end in line feeds, and nothing invisible is around it.

    Raises:
        InputError: if it is too long, or has characters that are no text.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    found = _CONTROL.search(text)
    if found is not None:
        raise InputError(
            f"the note has the character {found.group()!a} at place {found.start() + 1}; a note is text with line "
            "feeds and tabs, without other control characters"
        )
    if len(text) > MOST:
        raise InputError(f"the note has {len(text):,} characters; shorten it to {MOST:,}")
    return text


def _version(connection: Connection, run_id: int) -> int | None:
    """The version of a note, 0 if nobody can tell; None if there never was one."""
    wanted = select(type_coerce(_notes.c.version, NullType())).where(_notes.c.run_id == run_id)
    row = connection.execute(wanted).first()
    found: Any = None if row is None else row[0]
    return found if row is None or type(found) is int else 0
