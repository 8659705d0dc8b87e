"""The table of leases: who holds what, the statements that take and return leases, and the check of fencing tokens."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Double, Row, delete, select, update
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from glorasearch.db.models import LeaseRow, table_of
from glorasearch.db.process_identity import ProcessIdentity
from glorasearch.errors import RunLockedError

_rows = table_of(LeaseRow)


@dataclass(frozen=True, slots=True)
class FencingToken:
    """Proof that a lease was taken: the lease's row holds it until another owner takes the lease."""

    lease: str
    """Name of the lease."""
    value: str
    """Never used again, not even for the same lease."""
    what: str
    """What the lease protects, as messages name it."""

    def lost(self, by: str | None) -> RunLockedError:
        """The error to raise when this process no longer holds the lease."""
        how = f"taken over by {by}" if by else "released by somebody else"
        return RunLockedError(
            f"{self.what} was {how} while this process was paused or cut off from the database; it stops here and "
            "has changed nothing since. Continue where it runs now, or start it again later"
        )


class HeldLeases(threading.local):
    """The leases that the current thread holds in one database, which its transactions depend on."""

    def __init__(self) -> None:
        self._tokens: list[FencingToken] = []

    @contextmanager
    def holding(self, token: FencingToken) -> Iterator[None]:
        """Let this thread write only while it holds the lease."""
        self._tokens.append(token)
        try:
            yield
        finally:
            self._tokens.remove(token)

    def check(self, connection: Connection) -> None:
        """Refuse a transaction if this thread has lost a lease; a lease that it has stays its own until the commit.

        Raises:
            RunLockedError: naming what was lost, and to whom.
        """
        if not self._tokens:
            return
        names = [token.lease for token in self._tokens]
        # Taking a lease over locks its row FOR UPDATE, which waits for KEY SHARE; renewing it does not.
        wanted = select(_rows.c.name, _rows.c.token, _rows.c.host, _rows.c.pid).where(_rows.c.name.in_(names))
        found = {row.name: row for row in connection.execute(wanted.with_for_update(read=True, key_share=True))}
        for token in self._tokens:
            row = found.get(token.lease)
            if row is None or row.token != token.value:
                raise token.lost(None if row is None else f"process {row.pid} on {row.host}")


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """Who holds a lease."""

    token: str
    owner: ProcessIdentity
    seconds: float
    """How long the owner may be silent."""
    beats: int
    """Heartbeats since it was taken."""
    silent: float
    """Seconds since the last heartbeat."""

    @property
    def is_alive(self) -> bool:
        """Whether the owner may still be working: known of a process of this host, judged by heartbeats elsewhere."""
        return self.owner.is_alive if self.owner.is_here else self.silent < 3 * self.seconds

    def is_silent_since(self, earlier: LeaseHolder) -> bool:
        """Whether it is the same holder as then, without a heartbeat in between."""
        return (self.token, self.beats) == (earlier.token, earlier.beats)


def find_holder(connection: Connection, lease: str) -> LeaseHolder | None:
    """The holder of a lease, or None; no one else can take it until this transaction is over."""
    row = connection.execute(_select().where(_rows.c.name == lease).with_for_update()).one_or_none()
    return None if row is None else _holder(row)


def find_holders(connection: Connection, leases: Collection[str]) -> dict[str, LeaseHolder]:
    """Name → holder, for those of the leases that are held."""
    return {row.name: _holder(row) for row in connection.execute(_select().where(_rows.c.name.in_(leases)))}


def insert_lease(connection: Connection, token: FencingToken, owner: ProcessIdentity, seconds: float) -> None:
    """Take a lease that is free.

    Raises:
        sqlalchemy.exc.IntegrityError: if somebody else was faster.
    """
    connection.execute(_rows.insert().values(name=token.lease, **_values(token, owner, seconds)))


def replace_holder(connection: Connection, token: FencingToken, owner: ProcessIdentity, seconds: float) -> None:
    """Take a lease from its holder."""
    connection.execute(update(_rows).where(_rows.c.name == token.lease).values(_values(token, owner, seconds)))


def renew_lease(connection: Connection, token: FencingToken) -> bool:
    """Record a heartbeat; False if the lease has been lost."""
    now = {"beats": _rows.c.beats + 1, "renewed": _DatabaseTime()}
    return connection.execute(update(_rows).where(*_held_by(token)).values(now)).rowcount == 1


def delete_lease(connection: Connection, token: FencingToken) -> None:
    """Return a lease, unless another owner has taken it."""
    connection.execute(delete(_rows).where(*_held_by(token)))


class _DatabaseTime(FunctionElement[float]):
    """Now, by the database's clock: seconds since 1970."""

    inherit_cache = True
    type = Double()


@compiles(_DatabaseTime)
def _default(element: Any, compiler: Any, **options: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)"


@compiles(_DatabaseTime, "sqlite")
def _sqlite(element: Any, compiler: Any, **options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


def _select() -> Any:
    return select(_rows, (_DatabaseTime() - _rows.c.renewed).label("silent"))


def _values(token: FencingToken, owner: ProcessIdentity, seconds: float) -> dict[str, Any]:
    who = {"host": owner.host, "pid": owner.pid, "started": owner.started}
    return {"token": token.value, **who, "seconds": seconds, "beats": 0, "renewed": _DatabaseTime()}


def _held_by(token: FencingToken) -> tuple[Any, Any]:
    return _rows.c.name == token.lease, _rows.c.token == token.value


def _holder(row: Row[Any]) -> LeaseHolder:
    owner = ProcessIdentity(row.host, row.pid, row.started)
    return LeaseHolder(row.token, owner, row.seconds, row.beats, row.silent)
