"""Where a database is damaged: reading a bad cell says what is wrong with it, and this says which one it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Connection, Table, select, type_coerce
from sqlalchemy.types import NullType

from glorasearch.db.columns import Checked, DamagedCellError
from glorasearch.db.models import Base, LeaseRow, NoteRow, RunRow, StudyRow, table_of

_NAMED: Final = 3
"""Cells that a message names."""
_OWNERS: Final = {"run_id": table_of(RunRow), "study_id": table_of(StudyRow)}
"""Column → the table that it refers to, whose rows have names."""
_NAMING: Final = tuple(table.name for table in _OWNERS.values())
_LEASES: Final = table_of(LeaseRow)
_NOTES: Final = table_of(NoteRow)
_TELLING: Final = ("id", "study_id", "number")
"""Columns that tell which row it is, besides its primary key."""


@dataclass(frozen=True, slots=True)
class DamagedCell:
    """A cell that holds what no glorasearch has written."""

    table: str
    column: str
    row: Mapping[str, Any]
    """The columns that tell which row it is."""
    owner: str | None
    """Name of the run, or of the study, which is called like its run, that it belongs to."""
    owner_id: int | None
    reason: str

    @property
    def is_of_contents(self) -> bool:
        """Whether its run, which its name still finds, may forget it."""
        return self.table not in (_LEASES.name, _NOTES.name) and (self.table not in _NAMING or self.column != "name")

    def __str__(self) -> str:
        row = ", ".join(f"{name}={value}" for name, value in self.row.items())
        of = "" if self.owner is None else f" (run {self.owner!r})"
        return f"table {self.table}, row {row}{of}, column {self.column}: {self.reason}"


def damaged_cells(connection: Connection, *tables: Table) -> Iterator[DamagedCell]:
    """The damaged cells of some tables, or of all."""
    for table in tables or Base.metadata.sorted_tables:
        for column in table.c:
            if isinstance(column.type, Checked):
                yield from _of_column(connection, table, column)


def describe(cells: Iterator[DamagedCell]) -> str | None:
    """The first damaged cells, and what to do about them, as a message; None if there are none."""
    named = list(islice(cells, _NAMED + 1))
    if not named:
        return None
    more = "; and more" if len(named) > _NAMED else ""
    owners = sorted({cell.owner for cell in named if cell.owner is not None and cell.is_of_contents})
    remedy = f"start {' and '.join(map(repr, owners))} over with --fresh, or " if owners else ""
    if any(cell.table == _LEASES.name for cell in named):
        remedy += f"delete the rows of {_LEASES.name}, which only say who works on a run, or "
    noted = sorted({cell.owner for cell in named if cell.owner is not None and cell.table == _NOTES.name})
    if noted:
        remedy += f"write the note of {' and '.join(map(repr, noted))} anew (`glorasearch runs note RUN TEXT`), or "
    where = "; ".join(map(str, named[:_NAMED])) + more
    return f"{where}. Nothing else is affected: {remedy}put back a copy of the database"


def _of_column(connection: Connection, table: Table, column: Column[Any]) -> Iterator[DamagedCell]:
    dialect = connection.dialect
    known = [key for key in table.c if key.primary_key or key.name in _TELLING]
    found = connection.execute(select(*map(_raw, known), _raw(column).label("raw")))
    assert found.cursor is not None
    driver_type = found.cursor.description[-1][1]  # by which PostgreSQL's numbers are read
    process = column.type.dialect_impl(dialect).result_processor(dialect, driver_type)
    for *key, value in found:
        try:
            if process is not None:
                process(value)
        except DamagedCellError as error:
            row = {name.name: value for name, value in zip(known, key, strict=True)}
            number, owner = _owner(connection, table, row)
            shown = {name: _shown(value) for name, value in row.items()}
            yield DamagedCell(table.name, column.name, shown, owner, number, str(error))


def _owner(connection: Connection, table: Table, row: Mapping[str, Any]) -> tuple[int | None, str | None]:
    """Id and name of the run or study that a row belongs to."""
    for name, owners in _OWNERS.items():
        if table is _LEASES:
            which: ColumnElement[bool] = owners.c.name == str(row["name"]).partition(":")[2]
        elif (number := row.get("id" if table is owners else name)) is not None:
            which = owners.c.id == number
        else:
            continue
        found = connection.execute(select(_raw(owners.c.id), _raw(owners.c.name)).where(which)).first()
        return (None, None) if found is None else (found[0], str(_shown(found[1])))
    return None, None


def _raw(column: Column[Any]) -> ColumnElement[Any]:
    """A column as the driver gives it, checked by nobody."""
    return type_coerce(column, NullType())


def _shown(value: Any) -> Any:
    """A value that may stand in a message, whatever bytes it has."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return ascii(value) if isinstance(value, bytes) else value
