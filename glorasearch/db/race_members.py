"""The trainings of a run's race, each with its score out of fold; written as soon as it is known."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from sqlalchemy import URL, delete, select, update

from glorasearch.db.database import Database, as_database
from glorasearch.db.models import RaceMemberRow, RunRow, table_of
from glorasearch.db.retry import retried
from glorasearch.errors import RunNotFoundError

_members, _runs = map(table_of, (RaceMemberRow, RunRow))


@dataclass(frozen=True, kw_only=True, slots=True)
class RaceMember:
    """A model that was trained on all images but those of one fold, and judged on that one."""

    candidate: str
    """Digest of what was trained: subnet, rate and start."""
    fold: int
    """From 0."""
    label: str
    """The candidate, for people."""
    rung: int
    """1 or 2."""
    images: int
    correct: int
    nats: Sequence[float] | None
    """Sum of the cross-entropies at every inverse temperature of the grid; None if the training diverged."""
    steps: int
    seconds: float
    """Its share of the seconds of those that were trained beside it."""


_COLUMNS = tuple(field.name for field in fields(RaceMember))


class RaceStore:
    """The races of a database's runs. Every method is one transaction.

    Raises (all methods):
        RunNotFoundError: if there is no run of that name.
    """

    def __init__(self, database: str | URL | Database) -> None:
        self._database = as_database(database)

    @retried
    def record(self, run: str, members: Sequence[RaceMember]) -> None:
        """Record trainings; they replace those of the same candidate and fold."""
        with self._database.write() as connection:
            found = connection.execute(update(_runs).where(_runs.c.name == run).values(name=run))
            if not found.rowcount:
                raise RunNotFoundError(f"there is no run {run!r}")
            run_id = connection.scalar(select(_runs.c.id).where(_runs.c.name == run))
            for member in members:
                key = (_members.c.candidate == member.candidate, _members.c.fold == member.fold)
                connection.execute(delete(_members).where(_members.c.run_id == run_id, *key))
                row = asdict(member) | {"nats": None if member.nats is None else list(member.nats)}
                connection.execute(_members.insert(), row | {"run_id": run_id})

    @retried
    def list(self, run: str) -> builtins.list[RaceMember]:
        """The trainings that are recorded, by rung, candidate and fold."""
        columns = [_members.c[name] for name in _COLUMNS]
        with self._database.read() as connection:
            run_id = connection.scalar(select(_runs.c.id).where(_runs.c.name == run))
            if run_id is None:
                raise RunNotFoundError(f"there is no run {run!r}")
            wanted = select(*columns).where(_members.c.run_id == run_id)
            rows = connection.execute(wanted.order_by(_members.c.rung, _members.c.label, _members.c.fold)).all()
        return [RaceMember(**dict(zip(_COLUMNS, row, strict=True))) for row in rows]

    @retried
    def delete(self, run: str) -> None:
        """Remove what is recorded of a run's race."""
        with self._database.write() as connection:
            run_id = select(_runs.c.id).where(_runs.c.name == run).scalar_subquery()
            connection.execute(delete(_members).where(_members.c.run_id == run_id))
