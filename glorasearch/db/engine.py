"""The engine of a database URL: the settings that SQLite and PostgreSQL need, and what their errors mean."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, Final

import tenacity
from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry

from glorasearch.errors import InputError
from glorasearch.redact import conceal, redact_url
from glorasearch.terminal import is_text

_BUSY_SECONDS: Final = 60
"""How long a SQLite writer waits for another writer."""

_SQLITE_OPTIONS: Final = frozenset(
    ("uri", "timeout", "isolation_level", "detect_types", "check_same_thread", "cached_statements")
)
"""What the query of a SQLite URL may have; of others SQLAlchemy only warns."""

_CLIENT_OPTIONS: Final = {"connect_timeout": 10, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
"""For libpq, unless the URL sets them: a server that has vanished is noticed within half a minute."""

_SESSION_OPTIONS: Final = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "idle_in_transaction_session_timeout": "'60s'",
}
"""For PostgreSQL sessions: a client that has vanished, or was paused in a transaction, does not lock rows for hours."""

_LOST_STATES: Final = ("57P01", "57P02", "57P03", "53300")
"""SQLSTATEs, besides class 08, after which a server may answer again: shut down, crashed, starting up, full."""

_REFUSALS: Final = ("authentication failed", "does not exist", "no pg_hba.conf entry", "no password supplied")
"""Messages of servers that refuse a connection for good; libpq gives no SQLSTATE for a failed connection."""


def sqlite_url(path: str | Path) -> URL:
    """The URL of a SQLite file, whose path may have any characters; pasted into text, `?` and `%` mean something."""
    return URL.create("sqlite", database=str(path))


def read_url(url: str | URL) -> URL:
    """The URL with its driver; `postgresql` means psycopg 3.

    Raises:
        InputError: if it is not a URL.
    """
    if isinstance(url, str):
        conceal(url)
    try:
        if not is_text(str(url)):
            raise ValueError("it has bytes that are not UTF-8")
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:  # the latter for a port
        raise InputError(
            f"database {redact_url(str(url))!r} is not a URL; write sqlite:///path/to/file.db or "
            "postgresql://user@host:5432/name; a password "
            "goes behind the user (user:...@host), with %40 for an @ in it"
        ) from error
    backend = parsed.drivername.partition("+")[0]
    unknown = sorted(parsed.query.keys() - _SQLITE_OPTIONS) if backend == "sqlite" and "uri" not in parsed.query else []
    if unknown:
        raise InputError(
            f"database {parsed.render_as_string(hide_password=True)!r}: SQLite has no option {', '.join(unknown)}. A "
            "path with a ? in it cannot stand in a URL: give its folder by --workspace instead"
        )
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed


def in_memory(url: URL) -> bool:
    """Whether a SQLite URL names no file."""
    return url.database in (None, "", ":memory:")


def make_engine(url: URL, *, read_only: bool) -> Engine:
    """An engine with configured connections, none of which a process shares with its forks.

    Raises:
        NoSuchModuleError, ModuleNotFoundError: if the driver is not installed.
    """
    backend, options = url.get_backend_name(), dict[str, Any]()
    if backend == "sqlite":
        options["connect_args"] = {"timeout": _BUSY_SECONDS, "check_same_thread": False}
        if in_memory(url):
            options |= {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0}
    else:
        options["pool_pre_ping"] = True
    if url.drivername == "postgresql+psycopg":
        options["connect_args"] = {name: value for name, value in _CLIENT_OPTIONS.items() if name not in url.query}
    engine = create_engine(url, **options)
    _forget_connections_after_fork(engine)
    if backend == "sqlite":
        _configure_sqlite(engine, read_only=read_only)
    elif backend == "postgresql":
        _configure_postgresql(engine)
        if read_only:
            engine = engine.execution_options(postgresql_readonly=True)
    return engine


def is_lost(error: DBAPIError | sqlite3.Error) -> bool:
    """Whether an error means that the server is out of reach, so that a retry may succeed."""
    if isinstance(error, sqlite3.Error) or isinstance(error.orig, sqlite3.Error):
        return False
    if error.connection_invalidated:
        return True
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return str(state).startswith("08") or state in _LOST_STATES
    return type(error).__name__ == "OperationalError" and not any(text in str(error.orig) for text in _REFUSALS)


def _configure_sqlite(engine: Engine, *, read_only: bool) -> None:
    """WAL, foreign keys, and transactions that SQLAlchemy begins (the driver would begin them too late)."""

    @event.listens_for(engine, "connect")
    def connect(connection: Any, entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None
        connection.text_factory = _text
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
        if not read_only:
            _use_wal(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA query_only = {'ON' if read_only else 'OFF'}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("glorasearch_writes", False)
        driver: Any = connection.connection.driver_connection
        driver.execute("BEGIN IMMEDIATE" if writes else "BEGIN")


def _text(content: bytes) -> str:
    """A cell's text; bytes that are no UTF-8 are kept as lone surrogates, for the column to refuse its own cell."""
    return content.decode("utf-8", "surrogateescape")


def _is_busy(error: BaseException) -> bool:
    """Whether another connection holds a lock; extended codes have SQLITE_BUSY in their low byte."""
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


@tenacity.retry(
    retry=tenacity.retry_if_exception(_is_busy),
    stop=tenacity.stop_after_delay(_BUSY_SECONDS),
    wait=tenacity.wait_random(0.005, 0.05),
    reraise=True,
)
def _use_wal(connection: Any) -> None:
    """Switch to WAL. SQLite fails at once, without the busy timeout, while another process is switching."""
    connection.execute("PRAGMA journal_mode = WAL")


def _configure_postgresql(engine: Engine) -> None:
    statement = "; ".join(f"SET {name} = {value}" for name, value in _SESSION_OPTIONS.items())

    @event.listens_for(engine, "connect")
    def connect(connection: Any, entry: ConnectionPoolEntry) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement)
        connection.commit()


def _forget_connections_after_fork(engine: Engine) -> None:
    """Each process opens its own connections: a fork must not use its parent's."""

    @event.listens_for(engine, "connect")
    def connect(connection: Any, entry: ConnectionPoolEntry) -> None:
        entry.info["pid"] = os.getpid()

    @event.listens_for(engine, "checkout")
    def checkout(connection: Any, entry: Any, proxy: Any) -> None:
        if entry.info["pid"] != os.getpid():
            entry.dbapi_connection = proxy.dbapi_connection = None
            raise DisconnectionError("the connection belongs to the parent process")
