"""A database by its URL: engine, transactions, and the differences between SQLite and servers."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, IntegrityError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry

from glorasearch.db.schema import check_schema, migrate
from glorasearch.errors import DatabaseError, InputError

_BUSY_SECONDS = 60
"""How long a SQLite writer waits for another one."""


class Database:
    """The database of a workspace; opening it brings its schema up to date.

    SQLite (the default) runs in WAL mode, so readers never wait for the writer. `postgresql://` means psycopg 3.
    An in-memory SQLite database (`sqlite://`) lives in one connection, which threads use in turn.

    `read_only=True` never creates or migrates anything, and the database itself refuses writes.

    Raises:
        InputError: if the URL cannot be read or its driver is not installed.
        SchemaTooNewError: if a newer glorasearch wrote the database.
        DatabaseError: if the database cannot be reached or belongs to another program.
    """

    def __init__(self, url: str | URL, *, read_only: bool = False) -> None:
        self._open(_read_url(url), read_only)

    def _open(self, url: URL, read_only: bool) -> None:
        self.url = url
        self.read_only = read_only
        self.engine = self._create_engine()
        self._writer = self.engine.execution_options(glorasearch_writes=True)
        if read_only:
            with self.read() as connection:
                check_schema(connection, self.name)
        else:
            migrate(self)

    @property
    def name(self) -> str:
        """The URL without its password, for messages."""
        return self.url.render_as_string(hide_password=True)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one consistent state and writes nothing."""
        try:
            with self.engine.connect() as connection:
                yield connection
        except (DBAPIError, sqlite3.Error) as error:
            raise self._error(error) from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: committed at the end, rolled back by any exception.

        On SQLite it holds the write lock from its start, so it never fails for what another process wrote meanwhile.

        Raises:
            sqlalchemy.exc.IntegrityError: if a constraint is violated, for the caller to interpret.
        """
        if self.read_only:
            raise DatabaseError(f"database {self.name} was opened read-only; nothing can be changed through it")
        try:
            with self._writer.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except (DBAPIError, sqlite3.Error) as error:
            raise self._error(error) from error

    def close(self) -> None:
        """Close all pooled connections; the database opens new ones when it is used again."""
        self.engine.dispose()

    def __getstate__(self) -> dict[str, Any]:
        """The URL (with its password) is all that travels to another process."""
        if self.url.get_backend_name() == "sqlite" and _in_memory(self.url):
            raise TypeError("an in-memory database cannot be given to another process; use sqlite:///path/to/file.db")
        return {"url": self.url.render_as_string(hide_password=False), "read_only": self.read_only}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._open(make_url(state["url"]), state["read_only"])

    def _error(self, error: DBAPIError | sqlite3.Error) -> DatabaseError:
        reason = error.orig if isinstance(error, DBAPIError) else error
        return DatabaseError(f"database {self.name}: {reason}; is it reachable, writable and not full?")

    def _create_engine(self) -> Engine:
        sqlite = self.url.get_backend_name() == "sqlite"
        options: dict[str, Any] = {}
        if sqlite:
            self._check_file()
            options["connect_args"] = {"timeout": _BUSY_SECONDS, "check_same_thread": False}
            if _in_memory(self.url):
                options |= {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0}
        else:
            options["pool_pre_ping"] = True
        try:
            engine = create_engine(self.url, **options)
        except (NoSuchModuleError, ModuleNotFoundError) as error:
            raise InputError(
                f"database {self.name}: no driver for {self.url.drivername!r} ({error}); "
                "for PostgreSQL install glorasearch[postgresql]"
            ) from error
        _forget_connections_after_fork(engine)
        if sqlite:
            _configure_sqlite(engine, read_only=self.read_only)
        elif self.read_only and self.url.get_backend_name() == "postgresql":
            engine = engine.execution_options(postgresql_readonly=True)
        return engine

    def _check_file(self) -> None:
        if _in_memory(self.url) or (self.url.database or "").startswith("file:"):
            return
        path = Path(self.url.database or "")
        if not path.parent.is_dir():
            raise InputError(f"database {self.name}: the folder {path.parent} does not exist; create it first")
        if self.read_only and not path.is_file():
            raise DatabaseError(f"database {self.name}: there is no such file; start a run to create it")


def as_database(database: str | URL | Database) -> Database:
    """The database itself, or the one at a URL."""
    return database if isinstance(database, Database) else Database(database)


def _read_url(url: str | URL) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InputError(
            f"database {str(url)!r} is not a URL; write sqlite:///path/to/file.db or postgresql://user@host/name"
        ) from error
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed


def _in_memory(url: URL) -> bool:
    return url.database in (None, "", ":memory:")


def _configure_sqlite(engine: Engine, *, read_only: bool) -> None:
    """WAL, foreign keys, and transactions that begin when SQLAlchemy says so (the driver would begin them too late)."""

    @event.listens_for(engine, "connect")
    def connect(connection: Any, entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
        if not read_only:
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA query_only = {'ON' if read_only else 'OFF'}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("glorasearch_writes", False)
        driver: Any = connection.connection.driver_connection
        driver.execute("BEGIN IMMEDIATE" if writes else "BEGIN")


def _forget_connections_after_fork(engine: Engine) -> None:
    """A connection must not be shared by a process and its fork: each process opens its own."""

    @event.listens_for(engine, "connect")
    def connect(connection: Any, entry: ConnectionPoolEntry) -> None:
        entry.info["pid"] = os.getpid()

    @event.listens_for(engine, "checkout")
    def checkout(connection: Any, entry: Any, proxy: Any) -> None:
        if entry.info["pid"] != os.getpid():
            entry.dbapi_connection = proxy.dbapi_connection = None
            raise DisconnectionError("the connection belongs to the parent process")
