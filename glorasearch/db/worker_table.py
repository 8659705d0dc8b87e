"""Who evaluates the candidates of a run, and how busy each is; written by the driver, read by whoever watches."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime

from sqlalchemy import URL, delete, select

from glorasearch.db.database import Database, as_database
from glorasearch.db.models import WorkerRow, table_of
from glorasearch.db.retry import retried
from glorasearch.db.runs import run_id_of

_workers = table_of(WorkerRow)


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerRecord:
    """A worker of a search, as the driver knows it; after the search, as it was at its end."""

    number: int
    """From 0."""
    host: str
    """Where it is, or was when it was lost; empty if it never had a place on a cluster."""
    process: int
    """Its process id there, or 0."""
    ready: bool
    """Whether it takes tasks."""
    tasks: int
    """Evaluations that it has answered."""
    busy: float
    """Seconds that they took."""
    since: datetime
    """When the search, or its latest attempt, began to evaluate."""
    updated: datetime

    @property
    def share(self) -> float:
        """The share of its time in which it evaluated, from 0 to 1."""
        seconds = (self.updated - self.since).total_seconds()
        return min(1.0, self.busy / seconds) if seconds > 0 else 0.0


_COLUMNS = tuple(field.name for field in fields(WorkerRecord))


class WorkerStore:
    """The workers of a database's runs. Every method is one transaction.

    Raises (all methods):
        RunNotFoundError: if there is no run of that name.
    """

    def __init__(self, database: str | URL | Database) -> None:
        self._database = as_database(database)

    def record(self, run: str, workers: Sequence[WorkerRecord]) -> None:
        """Record the workers that a run has now; they replace those that it had.

        Raises:
            ConnectionLostError: at once, if the server is out of reach.
        """
        with self._database.write() as connection:
            run_id = run_id_of(connection, run)
            connection.execute(delete(_workers).where(_workers.c.run_id == run_id))
            if workers:
                connection.execute(_workers.insert(), [asdict(one) | {"run_id": run_id} for one in workers])

    @retried
    def list(self, run: str) -> builtins.list[WorkerRecord]:
        """The workers of a run, by number."""
        wanted = select(*(_workers.c[name] for name in _COLUMNS)).order_by(_workers.c.number)
        with self._database.read() as connection:
            rows = connection.execute(wanted.where(_workers.c.run_id == run_id_of(connection, run))).all()
        return [WorkerRecord(**dict(zip(_COLUMNS, row, strict=True)) | {"ready": bool(row.ready)}) for row in rows]
