"""Where a database is damaged: reading a bad cell says what is wrong with it, and this says which one it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from sqlalchemy import Column, Connection, Table, literal_column, select

from glorasearch.db.columns import Checked, DamagedCellError
from glorasearch.db.models import Base, RunRow, StudyRow, table_of

_NAMED: Final = 3
"""Cells that a message names."""
_OWNERS: Final = {"run_id": table_of(RunRow), "study_id": table_of(StudyRow)}
"""Column → the table that it refers to, whose rows have names."""
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
    reason: str

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
    owners = sorted({cell.owner for cell in named if cell.owner is not None})
    remedy = f"start {' and '.join(map(repr, owners))} over with --fresh, or " if owners else ""
    where = "; ".join(map(str, named[:_NAMED])) + more
    return f"{where}. Nothing else is affected: {remedy}put back a copy of the database"


def _of_column(connection: Connection, table: Table, column: Column[Any]) -> Iterator[DamagedCell]:
    dialect = connection.dialect
    process = column.type.dialect_impl(dialect).result_processor(dialect, None)
    known = [key for key in table.c if key.primary_key or key.name in _TELLING]
    quoted = dialect.identifier_preparer.quote(column.name)
    for *key, value in connection.execute(select(*known, literal_column(quoted).label("raw")).select_from(table)):
        try:
            if process is not None:
                process(value)
        except DamagedCellError as error:
            row = {name.name: value for name, value in zip(known, key, strict=True)}
            yield DamagedCell(table.name, column.name, row, _owner(connection, table, row), str(error))


def _owner(connection: Connection, table: Table, row: Mapping[str, Any]) -> str | None:
    for name, owners in _OWNERS.items():
        number = row.get("id" if table is owners else name)
        if number is not None:
            found = connection.scalar(select(owners.c.name).where(owners.c.id == number))
            return None if found is None else str(found)
    return None
