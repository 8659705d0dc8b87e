"""Leases: what one process has for itself for as long as its heart beats, whatever becomes of it."""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from glorasearch.db import lease_rows
from glorasearch.db.database import Database
from glorasearch.db.fences import Fence
from glorasearch.db.lease_rows import Holder
from glorasearch.db.process_identity import ProcessIdentity
from glorasearch.db.retry import retried
from glorasearch.errors import DatabaseError, RunLockedError

LEASE_SECONDS: Final = 30.0
"""An owner on another host whose heart has not beaten for so long is gone."""
BEATS_A_LEASE: Final = 6
"""Heartbeats in that time."""
_LOOKS_A_LEASE: Final = 30

_log = logging.getLogger(__name__)

_no_fork = threading.Lock()
"""Held by a beating heart, so that a fork never copies a connection pool that is in use by that thread."""
os.register_at_fork(before=_no_fork.acquire, after_in_parent=_no_fork.release, after_in_child=_no_fork.release)

_gone: Final[set[ProcessIdentity]] = set()
"""Owners on other hosts that were watched for a lease's time in vain: their other leases need not be watched again."""


class Lease:
    """A lease that this process holds; a thread renews it."""

    def __init__(self, database: Database, fence: Fence, seconds: float) -> None:
        self._database = database
        self._fence = fence
        self._seconds = seconds
        self._renewed = time.monotonic()
        self._lost = threading.Event()
        self._stop = threading.Event()
        self._process = os.getpid()
        self._heart = threading.Thread(target=self._beat, name=f"lease of {fence.what}", daemon=True)
        self._heart.start()

    def check(self) -> None:
        """Make sure that the lease is still held: cheap, unless this process was paused or cut off meanwhile.

        Transactions of the thread that took it are refused without this; it is for work outside of the database.

        Raises:
            RunLockedError: if somebody else has it now.
        """
        if not self._lost.is_set() and time.monotonic() - self._renewed > self._seconds / 2:
            self._renew()
        if self._lost.is_set():
            raise self._fence.lost(self._new_owner())

    def release(self) -> None:
        """Let the next one have it."""
        if os.getpid() != self._process:  # a fork of the owner
            return
        self._stop.set()
        self._heart.join(self._seconds)
        try:
            self._remove()
        except DatabaseError as error:
            _log.warning("%s stays locked until somebody finds this process gone: %s", self._fence.what, error)

    def _beat(self) -> None:
        while not self._stop.wait(self._seconds / BEATS_A_LEASE) and not self._lost.is_set():
            try:
                with _no_fork:
                    self._renew_once()
            except (DatabaseError, SQLAlchemyError) as error:  # whoever works with the database will say so
                _log.debug("%s: no heartbeat (%s)", self._fence.what, error)

    @retried
    def _new_owner(self) -> str | None:
        with self._database.read() as connection:
            holder = lease_rows.holders(connection, [self._fence.name]).get(self._fence.name)
        return None if holder is None else str(holder.owner)

    @retried
    def _renew(self) -> None:
        self._renew_once()

    def _renew_once(self) -> None:
        began = time.monotonic()
        with self._database.write(fenced=False) as connection:
            held = lease_rows.beat(connection, self._fence)
        if held:
            self._renewed = began
        else:
            self._lost.set()

    @retried
    def _remove(self) -> None:
        with self._database.write(fenced=False) as connection:
            lease_rows.remove(connection, self._fence)


class Leases:
    """The leases of a database. Threads, processes and hosts may share it.

    A lease is one row with a counter, which its owner's heart raises. An owner that is a process of this host and dead
    loses it at once. One on another host is watched: if its heart does not beat for a lease's time it is gone. No clock
    of any host matters.

    An owner that was paused for longer may find its lease taken. It then cannot write any more: every transaction of
    the thread that took the lease asks for it first (`Fences`).

    Args:
        database: where they are kept.
        seconds: how long an owner may be silent.
    """

    def __init__(self, database: Database, seconds: float = LEASE_SECONDS) -> None:
        self._database = database
        self._seconds = seconds

    @contextmanager
    def hold(self, name: str, what: str) -> Iterator[Lease]:
        """Hold a lease: nobody else, neither in this process nor in another, has it meanwhile.

        Args:
            name: of the lease.
            what: it protects, in words for messages: `run 'x'`.

        Raises:
            RunLockedError: if it is held by an owner that is alive.
        """
        fence = Fence(name, uuid.uuid4().hex, what)
        self._take(fence)
        lease = Lease(self._database, fence, self._seconds)
        try:
            with self._database.fences.behind(fence):
                yield lease
        finally:
            lease.release()

    @retried
    def holders(self, names: list[str]) -> dict[str, Holder]:
        """Name → holder, of those of these leases that are held."""
        with self._database.read() as connection:
            return lease_rows.holders(connection, names)

    def _take(self, fence: Fence) -> None:
        watched: Holder | None = None
        since = last = time.monotonic()
        while (holder := self._try(fence, watched, since)) is not None:
            now = time.monotonic()
            if watched is None:
                _log.warning(
                    "%s belongs to %s, last heard of %.0f s ago; watching for %.0f s whether it is alive",
                    fence.what,
                    holder.owner,
                    holder.silent,
                    holder.seconds,
                )
            if watched is None or now - last > holder.seconds / 2:  # perhaps its heart could not beat either
                watched, since = holder, now
            last = now
            time.sleep(holder.seconds / _LOOKS_A_LEASE)

    @retried
    def _try(self, fence: Fence, watched: Holder | None, since: float) -> Holder | None:
        """Take the lease (None then), or return the owner elsewhere that has to be watched.

        Raises:
            RunLockedError: if its owner is alive.
        """
        me = ProcessIdentity.current()
        try:
            with self._database.write() as connection:
                holder = lease_rows.find(connection, fence.name)
                if holder is None:
                    lease_rows.insert(connection, fence, me, self._seconds)
                    return None
                if not self._is_gone(holder, watched, since):
                    self._refuse_if_alive(fence, holder, watched)
                    return holder
                lease_rows.replace(connection, fence, me, self._seconds)
        except IntegrityError:
            return self._try(fence, watched, since)
        _log.warning("%s: taken over from %s, which is gone", fence.what, holder.owner)
        return None

    @staticmethod
    def _is_gone(holder: Holder, watched: Holder | None, since: float) -> bool:
        if holder.owner.is_here:
            return not holder.owner.is_alive
        if holder.owner in _gone and holder.silent >= holder.seconds:
            return True
        gone = watched is not None and holder.is_silent_since(watched) and time.monotonic() - since >= holder.seconds
        if gone:
            _gone.add(holder.owner)
        return gone

    @staticmethod
    def _refuse_if_alive(fence: Fence, holder: Holder, watched: Holder | None) -> None:
        if not holder.owner.is_here and (watched is None or holder.is_silent_since(watched)):
            return
        beats = "" if holder.owner.is_here else f" (its last heartbeat came {holder.silent:.0f} s ago)"
        raise RunLockedError(f"{fence.what} is being worked on by {holder.owner}{beats}; wait for it or stop it")
