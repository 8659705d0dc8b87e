"""Leases: exclusive ownership by one process, kept alive by its heartbeats."""

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

from glorasearch.db.database import Database
from glorasearch.db.lease_table import (
    FencingToken,
    LeaseHolder,
    delete_lease,
    find_holder,
    find_holders,
    insert_lease,
    renew_lease,
    replace_holder,
)
from glorasearch.db.process_identity import ProcessIdentity
from glorasearch.db.retry import retried
from glorasearch.errors import DatabaseError, RunLockedError

LEASE_SECONDS: Final = 30.0
"""An owner on another host without a heartbeat for this long is gone."""
BEATS_PER_LEASE: Final = 6
"""Heartbeats in that time."""
_LOOKS_PER_LEASE: Final = 30

_log = logging.getLogger(__name__)

_no_fork = threading.Lock()
"""Held during a heartbeat, so that a fork never copies a connection pool while the heartbeat's thread uses it."""
os.register_at_fork(before=_no_fork.acquire, after_in_parent=_no_fork.release, after_in_child=_no_fork.release)

_gone: Final[set[ProcessIdentity]] = set()
"""Owners on other hosts whose lease expired without a heartbeat: their other leases need not be watched again."""


class Lease:
    """A lease that this process holds; a thread renews it."""

    def __init__(self, database: Database, token: FencingToken, seconds: float) -> None:
        self._database = database
        self._token = token
        self._seconds = seconds
        self._renewed = time.monotonic()
        self._lost = threading.Event()
        self._stop = threading.Event()
        self._process = os.getpid()
        self._heartbeat = threading.Thread(target=self._beat, name=f"lease of {token.what}", daemon=True)
        self._heartbeat.start()

    def check(self) -> None:
        """Make sure that the lease is still held; free of cost unless this process was paused or cut off.

        For work outside the database: transactions of the thread that took the lease are checked anyway.

        Raises:
            RunLockedError: if somebody else has it now.
        """
        if not self._lost.is_set() and time.monotonic() - self._renewed > self._seconds / 2:
            self._renew()
        if self._lost.is_set():
            raise self._token.lost(self._new_owner())

    def release(self) -> None:
        """Return the lease; in a fork of the owner, do nothing."""
        if os.getpid() != self._process:
            return
        self._stop.set()
        self._heartbeat.join(self._seconds)
        try:
            self._delete()
        except DatabaseError as error:
            _log.warning("%s stays locked until this process is found to be gone: %s", self._token.what, error)

    def _beat(self) -> None:
        while not self._stop.wait(self._seconds / BEATS_PER_LEASE) and not self._lost.is_set():
            try:
                with _no_fork:
                    self._renew_once()
            except (DatabaseError, SQLAlchemyError) as error:  # reported by the threads that use the database
                _log.debug("%s: no heartbeat (%s)", self._token.what, error)

    @retried
    def _new_owner(self) -> str | None:
        with self._database.read() as connection:
            holder = find_holders(connection, [self._token.lease]).get(self._token.lease)
        return None if holder is None else str(holder.owner)

    @retried
    def _renew(self) -> None:
        self._renew_once()

    def _renew_once(self) -> None:
        began = time.monotonic()
        with self._database.write(fenced=False) as connection:
            held = renew_lease(connection, self._token)
        if held:
            self._renewed = began
        else:
            self._lost.set()

    @retried
    def _delete(self) -> None:
        with self._database.write(fenced=False) as connection:
            delete_lease(connection, self._token)


class Leases:
    """The leases of a database, which threads, processes and hosts may share.

    A lease is one row with a counter of heartbeats. An owner that was a process of this host and is dead loses it at
    once. One on another host is watched: without a heartbeat for a lease's time it is gone. No host's clock matters.

    An owner that was paused for longer may find its lease taken. It cannot write any more: every transaction of the
    thread that took the lease checks the fencing token first (`HeldLeases`).

    Args:
        database: where they are kept.
        seconds: how long an owner may be silent.
    """

    def __init__(self, database: Database, seconds: float = LEASE_SECONDS) -> None:
        self._database = database
        self._seconds = seconds

    @contextmanager
    def hold(self, name: str, what: str) -> Iterator[Lease]:
        """Hold a lease; no other thread or process can hold it at the same time.

        Args:
            name: of the lease.
            what: what it protects, for messages: `run 'x'`.

        Raises:
            RunLockedError: if its holder is alive.
        """
        token = FencingToken(name, uuid.uuid4().hex, what)
        self._take(token)
        lease = Lease(self._database, token, self._seconds)
        try:
            with self._database.held_leases.holding(token):
                yield lease
        finally:
            lease.release()

    def _take(self, token: FencingToken) -> None:
        watched: LeaseHolder | None = None
        since = last = time.monotonic()
        while (holder := self._try(token, watched, since)) is not None:
            now = time.monotonic()
            if watched is None:
                _log.warning(
                    "%s belongs to %s, last heartbeat %.0f s ago; watching for %.0f s whether it is alive",
                    token.what,
                    holder.owner,
                    holder.silent,
                    holder.seconds,
                )
            if watched is None or now - last > holder.seconds / 2:  # we were paused, and perhaps the holder was, too
                watched, since = holder, now
            last = now
            time.sleep(holder.seconds / _LOOKS_PER_LEASE)

    @retried
    def _try(self, token: FencingToken, watched: LeaseHolder | None, since: float) -> LeaseHolder | None:
        """Take the lease (None then), or return the holder elsewhere that has to be watched.

        Raises:
            RunLockedError: if its holder is alive.
        """
        me = ProcessIdentity.current()
        try:
            with self._database.write() as connection:
                holder = find_holder(connection, token.lease)
                if holder is None:
                    insert_lease(connection, token, me, self._seconds)
                    return None
                if not self._is_gone(holder, watched, since):
                    self._refuse_if_alive(token, holder, watched)
                    return holder
                replace_holder(connection, token, me, self._seconds)
        except IntegrityError:
            return self._try(token, watched, since)
        _log.warning("%s: taken over from %s, which is gone", token.what, holder.owner)
        return None

    @staticmethod
    def _is_gone(holder: LeaseHolder, watched: LeaseHolder | None, since: float) -> bool:
        if holder.owner.is_here:
            return not holder.owner.is_alive
        if holder.owner in _gone and holder.silent >= holder.seconds:
            return True
        gone = watched is not None and holder.is_silent_since(watched) and time.monotonic() - since >= holder.seconds
        if gone:
            _gone.add(holder.owner)
        return gone

    @staticmethod
    def _refuse_if_alive(token: FencingToken, holder: LeaseHolder, watched: LeaseHolder | None) -> None:
        if not holder.owner.is_here and (watched is None or holder.is_silent_since(watched)):
            return
        beats = "" if holder.owner.is_here else f" (its last heartbeat came {holder.silent:.0f} s ago)"
        raise RunLockedError(f"{token.what} is being worked on by {holder.owner}{beats}; wait for it or stop it")
