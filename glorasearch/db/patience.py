"""Waiting for a database server that is out of reach: how long, how often, and what is said meanwhile."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

from glorasearch.errors import ConnectionLostError, DatabaseError

if TYPE_CHECKING:
    from glorasearch.db.database import Database

PATIENCE_SECONDS: Final = 600.0
"""How long an operation waits for a server that was there before."""
START_SECONDS: Final = 10.0
"""How long a start waits for a server that has not answered yet; readers, such as the dashboard, wait no longer."""
FIRST_WAIT_SECONDS: Final = 0.1
"""The wait before the second attempt; every further one is twice as long as the one before, up to the longest."""
LONGEST_WAIT_SECONDS: Final = 10.0

_log = logging.getLogger(__name__)

T = TypeVar("T")
P = ParamSpec("P")


class HasDatabase(Protocol):
    """What `patient` methods belong to."""

    _database: Database


SelfT = TypeVar("SelfT", bound=HasDatabase)


class Patience:
    """Repeats what failed because the server was out of reach. Thread-safe; threads that wait together say it once.

    After it was in vain, or was interrupted, nothing waits again until the server has answered: a run that fails with
    its database must not wait once more to write down that it has failed.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self._name = name
        self._seconds = seconds
        self._lock = threading.Lock()
        self._lost_at: float | None = None
        self._said_at = 0.0
        self._exhausted = False

    def repeat(self, operation: Callable[[], T], seconds: float | None = None) -> T:
        """What the operation returns, as soon as it can be done.

        The operation must be one that may be done again after `ConnectionLostError`: a single transaction (see
        `Database.write`).

        Args:
            operation: what to do.
            seconds: how long to wait in place of the usual time.

        Raises:
            DatabaseError: if the server did not come back in time.
        """
        limit, wait, began = self._seconds if seconds is None else seconds, FIRST_WAIT_SECONDS, time.monotonic()
        while True:
            try:
                result = operation()
            except ConnectionLostError as error:
                waited = time.monotonic() - began
                if self._exhausted or waited >= limit:
                    self._exhausted = True
                    raise DatabaseError(
                        f"{error} (waited {waited:.0f} s for it)" if waited >= 1 else f"{error}"
                    ) from error
                self._say_lost(error, limit)
                self._sleep(min(wait, limit - waited))
                wait = min(2 * wait, LONGEST_WAIT_SECONDS)
            else:
                if self._lost_at is not None or self._exhausted:
                    self._say_back()
                return result

    def _sleep(self, seconds: float) -> None:
        try:
            time.sleep(seconds)
        except BaseException:
            self._exhausted = True
            raise

    def _say_lost(self, error: ConnectionLostError, limit: float) -> None:
        with self._lock:
            now = time.monotonic()
            if self._lost_at is None:
                self._lost_at = self._said_at = now
                _log.warning("%s; waiting up to %.0f s for it to come back, then going on", error, limit)
            elif now - self._said_at >= LONGEST_WAIT_SECONDS:
                self._said_at = now
                _log.warning("database %s: out of reach for %.0f s; still trying", self._name, now - self._lost_at)

    def _say_back(self) -> None:
        with self._lock:
            if self._lost_at is not None:
                seconds = time.monotonic() - self._lost_at
                _log.warning("database %s: back after %.1f s; going on", self._name, seconds)
            self._lost_at, self._exhausted = None, False

    def __reduce__(self) -> tuple[Any, ...]:
        return Patience, (self._name, self._seconds)


def patient(method: Callable[Concatenate[SelfT, P], T]) -> Callable[Concatenate[SelfT, P], T]:
    """Have a method wait for the database's server, and be repeated, as `Patience.repeat` does.

    For methods of one transaction, whose other calls into the database (if any) are patient themselves: so an error
    that gets here says that this transaction has not been committed.
    """

    @functools.wraps(method)
    def repeated(self: SelfT, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._database.patience.repeat(lambda: method(self, *args, **kwargs))

    return repeated
