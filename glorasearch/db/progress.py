"""How far each stage of a run is: a row a stage, written while it goes on, read by whoever watches."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, select, update

from glorasearch.db.models import ProgressRow, table_of

_progress = table_of(ProgressRow)


class StageState(StrEnum):
    """State of a stage."""

    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    """Stopped on request; the run resumes it."""
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """Recorded as RUNNING, but the run's process is gone; the run resumes it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageProgress:
    """How far a stage, or a part of one such as a pilot or a fold, is."""

    stage: str
    """Name of the stage; a part has a colon in it, such as `rate:0.003` or `search:chance`."""
    state: StageState
    started: datetime
    """Start of the latest attempt."""
    updated: datetime
    """When this was written; the end, if it is not running."""
    title: str = ""
    """What is being done."""
    note: str = ""
    """Such as the loss, or the best so far."""
    done: int = 0
    """Units, such as steps or trials, of `total`."""
    total: int = 0
    """0 if nothing is counted."""
    first_done: int = 0
    """Units that had been done before this attempt."""
    first_at: datetime | None = None
    """When counting began: after images were read and models were built."""

    @property
    def rate(self) -> float | None:
        """Units a second of this attempt; None before there are any."""
        if self.first_at is None or self.done <= self.first_done:
            return None
        seconds = (self.updated - self.first_at).total_seconds()
        return (self.done - self.first_done) / seconds if seconds > 0 else None

    @property
    def seconds(self) -> float:
        """From the start of the latest attempt to the last that is known of it."""
        return max(0.0, (self.updated - self.started).total_seconds())

    def seconds_left(self, now: datetime | None = None) -> float | None:
        """Seconds until `total` at the present rate; None where nothing is known."""
        if self.state is not StageState.RUNNING or self.rate is None or not self.total:
            return None
        waited = max(0.0, ((now or datetime.now(UTC)) - self.updated).total_seconds())
        return max(0.0, (self.total - self.done) / self.rate - waited)


_COLUMNS = tuple(field.name for field in fields(StageProgress))


def write_progress(connection: Connection, run_id: int, row: StageProgress) -> None:
    """Write the row of a stage; it replaces an earlier one."""
    values = {name: getattr(row, name) for name in _COLUMNS} | {"state": row.state.value}
    key = (_progress.c.run_id == run_id, _progress.c.stage == row.stage)
    if not connection.execute(update(_progress).where(*key).values(values)).rowcount:
        connection.execute(_progress.insert(), values | {"run_id": run_id})


def read_progress(
    connection: Connection, run_id: int, *, running: bool, finished: Collection[str]
) -> list[StageProgress]:
    """The stages of a run that have begun, in the order in which they did.

    Args:
        connection: to the database.
        run_id: id of the run.
        running: whether its process is alive and at work.
        finished: the stages that have a result.
    """
    columns = [_progress.c[name] for name in _COLUMNS]
    wanted = select(*columns).where(_progress.c.run_id == run_id).order_by(_progress.c.started, _progress.c.stage)
    rows = [_row(dict(zip(_COLUMNS, row, strict=True))) for row in connection.execute(wanted)]
    if running:
        return rows
    return [
        replace(row, state=StageState.FINISHED if row.stage in finished else StageState.INTERRUPTED)
        if row.state is StageState.RUNNING
        else row
        for row in rows
    ]


def _row(values: dict[str, Any]) -> StageProgress:
    return StageProgress(**values | {"state": StageState(values["state"])})
