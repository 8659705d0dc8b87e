"""The trainings of a run's race, each with its score out of fold; written as soon as it is known."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

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
    training: str | None = None
    """Digest of all that it depends on: equal for a training of another run that would end alike."""
    from_run: str | None = None
    """The run that trained it, if that is another one."""
    judged: Mapping[str, Any] | None = None
    """What metrics that take classes alike are made of (`glorasearch.runs.fold_scores`); None unless one judges."""


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
    def trained_elsewhere(self, run: str, trainings: Collection[str]) -> dict[str, tuple[str, RaceMember]]:
        """Digest of a training → another run that did it, and what is recorded of it there, of those that are asked
        for; what was itself taken over is not among them."""
        columns = [_members.c[name] for name in _COLUMNS]
        wanted = (
            select(_runs.c.name, *columns)
            .join(_runs, _runs.c.id == _members.c.run_id)
            .where(_members.c.training.in_(trainings), _members.c.from_run.is_(None), _runs.c.name != run)
            .order_by(_runs.c.id.desc())
        )
        with self._database.read() as connection:
            rows = connection.execute(wanted).all()
        found = [(name, RaceMember(**dict(zip(_COLUMNS, row, strict=True)))) for name, *row in rows]
        return {str(member.training): (name, member) for name, member in found}  # of several the first run's

    @retried
    def delete(self, run: str) -> None:
        """Remove what is recorded of a run's race."""
        with self._database.write() as connection:
            run_id = select(_runs.c.id).where(_runs.c.name == run).scalar_subquery()
            connection.execute(delete(_members).where(_members.c.run_id == run_id))
