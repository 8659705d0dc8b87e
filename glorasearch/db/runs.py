"""Runs: their configuration, state, stages and metrics."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import groupby
from typing import Any

from sqlalchemy import URL, ColumnElement, Connection, Row, bindparam, case, delete, func, select, true, update
from sqlalchemy.exc import IntegrityError

from glorasearch.db.damage import DamagedCell, damaged_cells, describe
from glorasearch.db.database import Database, as_database
from glorasearch.db.lease_table import LeaseHolder, find_holders
from glorasearch.db.leases import Lease, Leases
from glorasearch.db.models import LeaseRow, MetricRow, RunRow, StageRow, table_of
from glorasearch.db.process_identity import ProcessIdentity
from glorasearch.db.progress import StageProgress, read_progress, write_progress
from glorasearch.db.retry import retried
from glorasearch.errors import DamagedRowError, DatabaseError, RunNotFoundError

_runs, _stages, _metrics, _leases = map(table_of, (RunRow, StageRow, MetricRow, LeaseRow))


class RunState(StrEnum):
    """State of a run."""

    CREATED = "created"
    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    """Stopped on request, or after some of its stages; it can be resumed."""
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """Recorded as RUNNING, but its process is gone; the same command resumes it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """A run as recorded in the database."""

    name: str
    config: dict[str, Any]
    digest: str
    """Digest of the configuration."""
    state: RunState
    error: str | None
    created: datetime
    updated: datetime
    owner: ProcessIdentity | None
    """The process that works on it."""
    stages: dict[str, dict[str, Any]]
    """Stage → its result, in the order in which they finished."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One number that a stage measured at one step."""

    stage: str
    step: int
    name: str
    value: float


class RunStore:
    """The runs of a database. Every method is one transaction; threads and processes may share the database.

    Raises (all methods but `create`, `get` and `list`):
        RunNotFoundError: if there is no run of that name.
    """

    def __init__(self, database: str | URL | Database) -> None:
        self._database = as_database(database)
        self._leases = Leases(self._database)

    @property
    def database(self) -> Database:
        """The database that holds the runs."""
        return self._database

    def create(self, name: str, config: Mapping[str, Any], digest: str) -> RunRecord:
        """Add a run.

        Raises:
            DatabaseError: if there is one of that name.
        """
        now = datetime.now(UTC)
        row = {"name": name, "config": config, "digest": digest, "state": RunState.CREATED.value}
        try:
            self._insert(row | {"created": now, "updated": now})
        except IntegrityError as error:
            raise DatabaseError(f"run {name!r} exists already; choose another name, or resume it") from error
        return self._require(name)

    @retried
    def _insert(self, row: dict[str, Any]) -> None:
        with self._database.write() as connection:
            connection.execute(_runs.insert(), row)

    def get(self, name: str) -> RunRecord | None:
        """The run of that name, if there is one.

        Raises:
            DamagedRowError: if it cannot be read.
        """
        return next(iter(self._select(_runs.c.name == name)), None)

    @retried
    def exists(self, name: str) -> bool:
        """Whether there is a run of that name, which may be damaged."""
        with self._database.read() as connection:
            return connection.scalar(select(_runs.c.id).where(_runs.c.name == name)) is not None

    def list(self) -> builtins.list[RunRecord]:
        """All runs that can be read, in the order of their creation; `damaged` has the others."""
        try:
            return self._select(true())
        except DamagedRowError:
            return self._select(_runs.c.id.not_in({cell.owner_id for cell in self._damaged_cells()}))

    def damaged(self) -> dict[str, str]:
        """Name → what is wrong, for the runs that cannot be read; in the order of the names."""
        cells = sorted(self._damaged_cells(), key=lambda cell: str(cell.owner))
        return {name: str(describe(of_run)) for name, of_run in groupby(cells, key=lambda cell: str(cell.owner))}

    @retried
    def _damaged_cells(self) -> builtins.list[DamagedCell]:
        """Those that make runs unreadable."""
        with self._database.read() as connection:
            return [cell for cell in damaged_cells(connection, _runs, _stages, _leases) if cell.owner is not None]

    @retried
    def delete(self, name: str) -> None:
        """Remove a run with its stages and metrics (not its files, weights or study)."""
        with self._change(name) as (connection, run_id):
            connection.execute(delete(_runs).where(_runs.c.id == run_id))

    def set_state(self, name: str, state: RunState | str, error: str | None = None) -> None:
        """Set the state of a run; `error` is why it failed, None clears it."""
        self._update(name, {"state": RunState(state).value, "error": error})

    @retried
    def set_stage(self, name: str, stage: str, result: Mapping[str, Any]) -> None:
        """Record the result of a finished stage; it replaces an earlier one."""
        with self._change(name) as (connection, run_id):
            key = (_stages.c.run_id == run_id, _stages.c.stage == stage)
            connection.execute(delete(_stages).where(*key))
            last = connection.scalar(select(func.max(_stages.c.finished)).where(_stages.c.run_id == run_id))
            now = datetime.now(UTC)
            if last is not None and last >= now:  # a clock was set back: the order of the stages is kept
                now = last + timedelta(microseconds=1)
            row = {"run_id": run_id, "stage": stage, "result": result, "finished": now}
            connection.execute(_stages.insert(), row)

    @retried
    def record_metrics(self, name: str, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Record metrics of one step; they replace those that an interrupted attempt recorded for the same step."""
        if not values:
            return
        with self._change(name) as (connection, run_id):
            key = (_metrics.c.run_id == run_id, _metrics.c.stage == stage, _metrics.c.step == step)
            connection.execute(delete(_metrics).where(*key, _metrics.c.name.in_(values)))
            connection.execute(
                _metrics.insert(),
                [
                    {"run_id": run_id, "stage": stage, "step": step, "name": metric, "value": value}
                    for metric, value in values.items()
                ],
            )

    @retried
    def metrics(self, name: str, stage: str | None = None) -> builtins.list[Metric]:
        """The metrics of a run, or of one of its stages, by stage, step and name."""
        wanted = select(_metrics.c.stage, _metrics.c.step, _metrics.c.name, _metrics.c.value)
        with self._database.read() as connection:
            wanted = wanted.where(_metrics.c.run_id == run_id_of(connection, name))
            if stage is not None:
                wanted = wanted.where(_metrics.c.stage == stage)
            rows = connection.execute(wanted.order_by(_metrics.c.stage, _metrics.c.step, _metrics.c.name)).all()
        return [Metric(*row) for row in rows]

    def set_progress(self, name: str, row: StageProgress, *, wait: bool = True) -> None:
        """Record how far a stage is; it replaces what was known of it.

        Raises:
            ConnectionLostError: at once, without `wait`, if the server is out of reach.
        """

        def write() -> None:
            with self._database.write() as connection:
                write_progress(connection, run_id_of(connection, name), row)

        if wait:
            self._database.retry.run(write)
        else:
            write()

    @retried
    def progress(self, name: str) -> builtins.list[StageProgress]:
        """The stages of a run that have begun, in the order in which they did, and how far each is."""
        with self._database.read() as connection:
            run_id = run_id_of(connection, name)
            state = connection.scalar(select(_runs.c.state).where(_runs.c.id == run_id))
            finished = connection.scalars(select(_stages.c.stage).where(_stages.c.run_id == run_id)).all()
            holder = find_holders(connection, [_lease_of(name)]).get(_lease_of(name))
            running = state == RunState.RUNNING and (holder is None or holder.is_alive)
            return read_progress(connection, run_id, running=running, finished=finished)

    @contextmanager
    def lock(self, name: str) -> Iterator[Lease]:
        """Own a run: nothing else, in this process or another, can work on it at the same time.

        The lock of a process that has died is taken over: at once if it was on this host, else after a lease's time
        without a heartbeat.

        Raises:
            RunLockedError: if a live process owns the run.
        """
        if not self.exists(name):
            self._require(name)
        with self._leases.hold(_lease_of(name), f"run {name!r}") as lease:
            yield lease

    @retried
    def _update(self, name: str, values: Mapping[str, Any]) -> None:
        with self._change(name) as (connection, run_id):
            connection.execute(update(_runs).where(_runs.c.id == run_id).values(**values))

    @contextmanager
    def _change(self, name: str) -> Iterator[tuple[Connection, int]]:
        """A transaction that changes one run. It locks the run's row, so changes of one run are serialised."""
        with self._database.write() as connection:
            now = bindparam("now", datetime.now(UTC), _runs.c.updated.type)
            later = case((_runs.c.updated > now, _runs.c.updated), else_=now)  # a clock may have been set back
            connection.execute(update(_runs).where(_runs.c.name == name).values(updated=later))
            yield connection, run_id_of(connection, name)

    def _require(self, name: str) -> RunRecord:
        run = self.get(name)
        if run is None:
            raise _not_found(name, [run.name for run in reversed(self.list())][:10])
        return run

    @retried
    def _select(self, which: ColumnElement[bool]) -> builtins.list[RunRecord]:
        wanted = select(_runs).where(which).order_by(_runs.c.id)
        results = select(_stages).order_by(_stages.c.finished, _stages.c.stage)
        with self._database.read() as connection:
            rows = connection.execute(wanted).all()
            stages: dict[int, dict[str, Any]] = {row.id: {} for row in rows}
            for stage in connection.execute(results.where(_stages.c.run_id.in_(stages))):
                stages[stage.run_id][stage.stage] = stage.result
            held = find_holders(connection, [_lease_of(row.name) for row in rows])
        return [_run(row, stages[row.id], held.get(_lease_of(row.name))) for row in rows]


def _lease_of(name: str) -> str:
    return f"run:{name}"


def _run(row: Row[Any], stages: dict[str, dict[str, Any]], holder: LeaseHolder | None) -> RunRecord:
    state = RunState(row.state)
    if state is RunState.RUNNING and holder is not None and not holder.is_alive:
        state = RunState.INTERRUPTED
    return RunRecord(
        name=row.name,
        config=row.config,
        digest=row.digest,
        state=state,
        error=row.error,
        created=row.created,
        updated=row.updated,
        owner=None if holder is None else holder.owner,
        stages=stages,
    )


def run_id_of(connection: Connection, name: str) -> int:
    """The id of the run of that name.

    Raises:
        RunNotFoundError: if there is none.
    """
    found = connection.scalar(select(_runs.c.id).where(_runs.c.name == name))
    if found is None:
        raise _not_found(name, connection.scalars(select(_runs.c.name).order_by(_runs.c.id.desc()).limit(10)))
    return int(found)


def _not_found(name: str, newest: Iterable[str]) -> RunNotFoundError:
    return RunNotFoundError(f"there is no run {name!r}; the newest in this database are: {', '.join(newest) or 'none'}")
