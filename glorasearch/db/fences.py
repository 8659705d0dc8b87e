"""What keeps a process that has lost a lease from writing: every transaction asks for the leases of its thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, select

from glorasearch.db.models import LeaseRow, table_of
from glorasearch.errors import RunLockedError

_rows = table_of(LeaseRow)


@dataclass(frozen=True, slots=True)
class Fence:
    """A lease, as one process has taken it."""

    name: str
    token: str
    """Of this lease, once and never again."""
    what: str
    """What it protects, in words."""

    def lost(self, by: str | None) -> RunLockedError:
        """The error to raise when somebody else has the lease, or nobody."""
        how = f"taken over by {by}" if by else "released by somebody else"
        return RunLockedError(
            f"{self.what} was {how} while this process was paused or cut off from the database; it stops here and "
            "has changed nothing since. Go on from where the other one is, or start it again later"
        )


class Fences(threading.local):
    """The leases that a thread holds in one database."""

    def __init__(self) -> None:
        self._held: list[Fence] = []

    @contextmanager
    def behind(self, fence: Fence) -> Iterator[None]:
        """Let this thread write only as long as the lease is held."""
        self._held.append(fence)
        try:
            yield
        finally:
            self._held.remove(fence)

    def check(self, connection: Connection) -> None:
        """Refuse a transaction of a thread that has lost a lease; a lease it has cannot be lost until it is over.

        Raises:
            RunLockedError: naming what was lost, and to whom.
        """
        if not self._held:
            return
        names = [fence.name for fence in self._held]
        # Whoever takes a lease over locks its row FOR UPDATE, which waits for KEY SHARE; renewing it does not.
        wanted = select(_rows.c.name, _rows.c.token, _rows.c.host, _rows.c.pid).where(_rows.c.name.in_(names))
        found = {row.name: row for row in connection.execute(wanted.with_for_update(read=True, key_share=True))}
        for fence in self._held:
            row = found.get(fence.name)
            if row is None or row.token != fence.token:
                raise fence.lost(None if row is None else f"process {row.pid} on {row.host}")
