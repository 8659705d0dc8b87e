"""Tables with a prefix of their own, since Optuna's have the same names; times of trials in UTC.

Plain Optuna, pointed at a database, adds the tables that it misses. They refer to columns that ours never had, after
which SQLite refuses changes of ours; and renaming a table would take those references along. So on SQLite the tables
are copied.
"""

import re
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_PREFIX = "glorasearch_"
_TABLES = (
    "studies",
    "study_attributes",
    "distributions",
    "trials",
    "runs",
    "stages",
    "metrics",
    "race_members",
    "leases",
    "receipts",
)
"""Each after those that it refers to."""
_MANY = 1_000
"""Trials that are changed at once."""


def upgrade() -> None:
    """Give the tables, and on PostgreSQL their constraints and sequences, the prefix; turn the times into UTC."""
    connection = op.get_bind()
    (_copy if connection.dialect.name == "sqlite" else _rename)(connection)
    _use_utc(connection)


def _copy(connection: sa.Connection) -> None:
    for name in _TABLES:
        made = connection.scalar(
            sa.text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :name"), {"name": name}
        )
        connection.exec_driver_sql(_with_prefix(str(made)))
        connection.exec_driver_sql(f"INSERT INTO {_PREFIX}{name} SELECT * FROM {name}")
    sequences = connection.execute(sa.text("SELECT name, seq FROM sqlite_sequence")).all()
    for name, number in sequences:
        if name in _TABLES:  # ids of what was deleted are not used again
            new = {"name": _PREFIX + name, "number": number}
            connection.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = :name"), new)
            connection.execute(sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :number)"), new)
    for name in reversed(_TABLES):
        connection.exec_driver_sql(f"DROP TABLE {name}")


def _with_prefix(made: str) -> str:
    """The statement that made a table, for the table with the prefix."""
    names = "|".join(_TABLES)
    made = re.sub(rf'\b(CREATE TABLE|REFERENCES)\s+"?({names})"?(?=[\s(])', rf"\1 {_PREFIX}\2", made)
    return re.sub(
        rf"\b(pk|uq|fk)_({names})(?=[_\s])",
        rf"\1_{_PREFIX}\2",
        re.sub(rf"_({names}) (?=FOREIGN)", rf"_{_PREFIX}\1 ", made),
    )


def _rename(connection: sa.Connection) -> None:
    for name in _TABLES:
        op.rename_table(name, _PREFIX + name)
    constraints = sa.text(
        "SELECT conname FROM pg_constraint WHERE conrelid = to_regclass(:name) AND contype IN ('p', 'u', 'f')"
    )
    for name in _TABLES:
        for old in connection.scalars(constraints, {"name": _PREFIX + name}).all():
            kind, _, rest = old.partition("_")
            new = re.sub(rf"_({'|'.join(_TABLES)})$", rf"_{_PREFIX}\1", rest) if kind == "fk" else rest
            op.execute(f'ALTER TABLE {_PREFIX}{name} RENAME CONSTRAINT "{old}" TO "{kind}_{_PREFIX}{new}"')
        sequence = f"{name}_id_seq"
        if connection.scalar(sa.text("SELECT to_regclass(:name)"), {"name": sequence}) is not None:
            op.execute(f"ALTER SEQUENCE {sequence} RENAME TO {_PREFIX}{sequence}")


def _use_utc(connection: sa.Connection) -> None:
    """Earlier versions wrote local time: most likely that of the machine that opens the database now."""
    table = f"{_PREFIX}trials"
    rows = connection.execute(sa.text(f"SELECT id, started, finished FROM {table}")).all()
    change = sa.text(f"UPDATE {table} SET started = :started, finished = :finished WHERE id = :id")
    for first in range(0, len(rows), _MANY):
        new = [
            {"id": row.id, "started": _utc(row.started), "finished": _utc(row.finished)}
            for row in rows[first : first + _MANY]
        ]
        connection.execute(change, new)


def _utc(value: Any) -> Any:
    """Local time → UTC, as the database's driver has it: text on SQLite. What is no time is left as it is."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None)
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return value
    return f"{found.astimezone(UTC).replace(tzinfo=None):%Y-%m-%d %H:%M:%S.%f}"
