"""Waiting for a database server that is out of reach: how long, how often, and what is logged meanwhile."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import Concatenate, Final, ParamSpec, Protocol, TypeVar

import tenacity

from glorasearch.errors import ConnectionLostError, DatabaseError

RETRY_SECONDS: Final = 600.0
"""How long an operation waits for a server that has answered before."""
START_SECONDS: Final = 10.0
"""How long opening a database waits for the server; so do readers, such as the dashboard, at any time."""
FIRST_WAIT_SECONDS: Final = 0.1
"""The wait before the second attempt; each further one is twice as long, up to the longest."""
LONGEST_WAIT_SECONDS: Final = 10.0

_BACKOFF: Final = tenacity.wait_exponential(multiplier=FIRST_WAIT_SECONDS, max=LONGEST_WAIT_SECONDS)
_log = logging.getLogger(__name__)

T = TypeVar("T")
P = ParamSpec("P")


class RetryPolicy:
    """Repeats operations that failed because the server was out of reach. Thread-safe; an outage is logged once.

    After a timeout or an interruption nothing waits again until the server has answered: a run that fails with its
    database must not wait once more to record that it has failed.
    """

    def __init__(self, name: str, seconds: float) -> None:
        """Wait for the database called `name` for up to `seconds`."""
        self._name = name
        self._seconds = seconds
        self._lock = threading.Lock()
        self._lost_at: float | None = None
        self._logged_at = 0.0
        self._exhausted = False

    def run(self, operation: Callable[[], T], seconds: float | None = None) -> T:
        """What the operation returns, as soon as the server answers.

        The operation must be one that may be repeated after `ConnectionLostError`: a single transaction (see
        `Database.write`).

        Args:
            operation: what to do.
            seconds: how long to wait in place of the usual time.

        Raises:
            DatabaseError: if the server did not come back in time.
        """
        limit, began = self._seconds if seconds is None else seconds, time.monotonic()

        def give_up(state: tenacity.RetryCallState) -> bool:
            return self._exhausted or time.monotonic() - began >= limit

        def wait(state: tenacity.RetryCallState) -> float:
            return max(0.0, min(_BACKOFF(state), began + limit - time.monotonic()))

        def lost(state: tenacity.RetryCallState) -> None:
            error = None if state.outcome is None else state.outcome.exception()
            self._log_lost(error, limit)

        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(ConnectionLostError),
            stop=give_up,
            wait=wait,
            before_sleep=lost,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            result = attempts(operation)
        except ConnectionLostError as error:
            self._exhausted = True
            waited = time.monotonic() - began
            raise DatabaseError(f"{error} (waited {waited:.0f} s for it)" if waited >= 1 else f"{error}") from error
        if self._lost_at is not None or self._exhausted:
            self._log_back()
        return result

    def _sleep(self, seconds: float) -> None:
        try:
            time.sleep(seconds)
        except BaseException:
            self._exhausted = True
            raise

    def _log_lost(self, error: BaseException | None, limit: float) -> None:
        with self._lock:
            now = time.monotonic()
            if self._lost_at is None:
                self._lost_at = self._logged_at = now
                _log.warning("%s; waiting up to %.0f s for it to come back", error, limit)
            elif now - self._logged_at >= LONGEST_WAIT_SECONDS:
                self._logged_at = now
                _log.warning("database %s: out of reach for %.0f s; still trying", self._name, now - self._lost_at)

    def _log_back(self) -> None:
        with self._lock:
            if self._lost_at is not None:
                seconds = time.monotonic() - self._lost_at
                _log.warning("database %s: back after %.1f s; continuing", self._name, seconds)
            self._lost_at, self._exhausted = None, False


class Retries(Protocol):
    """Something with a retry policy: a database."""

    @property
    def retry(self) -> RetryPolicy:
        """How it waits for its server."""
        ...


class UsesDatabase(Protocol):
    """What `retried` methods belong to."""

    @property
    def _database(self) -> Retries: ...


SelfT = TypeVar("SelfT", bound=UsesDatabase)


def retried(method: Callable[Concatenate[SelfT, P], T]) -> Callable[Concatenate[SelfT, P], T]:
    """Have a method wait for the database's server and be repeated, by the database's `RetryPolicy`.

    For methods of one transaction whose other calls into the database, if any, are retried themselves. So an error that
    arrives here means that this transaction was not committed.
    """

    @functools.wraps(method)
    def repeated(self: SelfT, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._database.retry.run(lambda: method(self, *args, **kwargs))

    return repeated
