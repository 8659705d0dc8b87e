"""Leases as rows: who holds what, since when by the database's clock; and the statements that take and return them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Double, Row, delete, select, update
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from glorasearch.db.fences import Fence
from glorasearch.db.models import LeaseRow, table_of
from glorasearch.db.process_identity import ProcessIdentity

_rows = table_of(LeaseRow)


class database_time(FunctionElement[float]):  # noqa: N801  # a function of SQL, written like one
    """Now, by the database's clock: seconds since 1970."""

    inherit_cache = True
    type = Double()


@compiles(database_time)
def _default(element: Any, compiler: Any, **options: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)"


@compiles(database_time, "sqlite")
def _sqlite(element: Any, compiler: Any, **options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease."""

    token: str
    owner: ProcessIdentity
    seconds: float
    beats: int
    silent: float
    """Seconds since its last heartbeat."""

    @property
    def is_alive(self) -> bool:
        """Whether the owner may still be at work: known of a process here, of others by their hearts."""
        return self.owner.is_alive if self.owner.is_here else self.silent < 3 * self.seconds

    def is_silent_since(self, earlier: Holder) -> bool:
        """Whether this is the same holding as then, without a heartbeat between."""
        return (self.token, self.beats) == (earlier.token, earlier.beats)


def find(connection: Connection, name: str) -> Holder | None:
    """Who holds a lease, if anybody does; nobody else can take it until this transaction is over."""
    row = connection.execute(_select().where(_rows.c.name == name).with_for_update()).one_or_none()
    return None if row is None else _holder(row)


def holders(connection: Connection, names: Collection[str]) -> dict[str, Holder]:
    """Name → holder, of those of these leases that are held."""
    return {row.name: _holder(row) for row in connection.execute(_select().where(_rows.c.name.in_(names)))}


def insert(connection: Connection, fence: Fence, owner: ProcessIdentity, seconds: float) -> None:
    """Take a lease that nobody holds.

    Raises:
        sqlalchemy.exc.IntegrityError: if somebody was faster.
    """
    connection.execute(_rows.insert().values(name=fence.name, **_values(fence, owner, seconds)))


def replace(connection: Connection, fence: Fence, owner: ProcessIdentity, seconds: float) -> None:
    """Take a lease from whoever holds it."""
    connection.execute(update(_rows).where(_rows.c.name == fence.name).values(_values(fence, owner, seconds)))


def beat(connection: Connection, fence: Fence) -> bool:
    """Renew a lease; False if it is no longer this one."""
    now = {"beats": _rows.c.beats + 1, "renewed": database_time()}
    return connection.execute(update(_rows).where(*_this(fence)).values(now)).rowcount == 1


def remove(connection: Connection, fence: Fence) -> None:
    """Return a lease, unless somebody else has it."""
    connection.execute(delete(_rows).where(*_this(fence)))


def _select() -> Any:
    return select(_rows, (database_time() - _rows.c.renewed).label("silent"))


def _values(fence: Fence, owner: ProcessIdentity, seconds: float) -> dict[str, Any]:
    who = {"host": owner.host, "pid": owner.pid, "started": owner.started}
    return {"token": fence.token, **who, "seconds": seconds, "beats": 0, "renewed": database_time()}


def _this(fence: Fence) -> tuple[Any, Any]:
    return _rows.c.name == fence.name, _rows.c.token == fence.token


def _holder(row: Row[Any]) -> Holder:
    return Holder(row.token, ProcessIdentity(row.host, row.pid, row.started), row.seconds, row.beats, row.silent)
