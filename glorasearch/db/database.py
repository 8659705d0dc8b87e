"""A database by its URL: transactions, and what they promise when the server breaks off."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, NoSuchModuleError

from glorasearch.db.columns import DamagedCellError
from glorasearch.db.damage import damaged_cells, describe
from glorasearch.db.engine import in_memory, is_lost, make_engine, read_url
from glorasearch.db.lease_table import HeldLeases
from glorasearch.db.receipts import Receipt, drop_old_receipts, leave_receipt, was_committed
from glorasearch.db.retry import RETRY_SECONDS, START_SECONDS, RetryPolicy
from glorasearch.db.schema import bring_up_to_date, check_schema, is_up_to_date
from glorasearch.errors import ConnectionLostError, DamagedRowError, DatabaseError, InputError, reason
from glorasearch.redact import redact_url


class Database:
    """The database of a workspace; opening it brings its schema up to date.

    SQLite (the default) runs in WAL mode, so readers never wait for the writer. `postgresql://` means psycopg 3.
    An in-memory SQLite database (`sqlite://`) lives in one connection, which threads use in turn.

    `read_only=True` never creates or migrates anything, and the database itself refuses writes.

    Args:
        url: of the database.
        read_only: never write.
        retry_seconds: how long the stores of this package wait for a server that has answered before and is out of
            reach. Opening, and read-only use, wait for `START_SECONDS` at most.

    Raises:
        InputError: if the URL cannot be read or its driver is not installed.
        SchemaTooNewError: if a newer glorasearch wrote the database.
        DatabaseError: if the database cannot be reached or belongs to another program.
    """

    def __init__(self, url: str | URL, *, read_only: bool = False, retry_seconds: float = RETRY_SECONDS) -> None:
        self._open(read_url(url), read_only, retry_seconds)

    def _open(self, url: URL, read_only: bool, retry_seconds: float) -> None:
        self.url = url
        self.read_only = read_only
        self._retry_seconds = retry_seconds
        at_start = min(retry_seconds, START_SECONDS)
        self.retry = RetryPolicy(self.name, at_start if read_only else retry_seconds)
        self.held_leases = HeldLeases()
        try:
            self.engine = self._create_engine()
            self._writer = self.engine.execution_options(glorasearch_writes=True)
            self.retry.run(self._check_schema if read_only else self._migrate, at_start)
        except (TypeError, ValueError) as error:  # of drivers, about options that they do not know or cannot read
            if not url.query:
                raise
            options = ", ".join(url.query)
            raise InputError(
                f"database {self.name} cannot be opened: {reason(error)}; are the options behind the ? ({options}) "
                "those of its driver?"
            ) from error

    @property
    def name(self) -> str:
        """The URL without credentials, for messages."""
        return redact_url(self.url.render_as_string(hide_password=True))

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one consistent state and writes nothing.

        Raises:
            ConnectionLostError: if the server is out of reach; read again (`retried` methods do).
            DamagedRowError: if a cell that is read is damaged.
        """
        try:
            with self.engine.connect() as connection:
                yield connection
        except (DBAPIError, sqlite3.Error) as error:
            raise self._error(error) from error
        except DamagedCellError as error:
            raise self._damage(error) from error

    @contextmanager
    def write(self, *, fenced: bool = True) -> Iterator[Connection]:
        """One transaction: committed at the end, rolled back by any exception.

        On SQLite it holds the write lock from its start, so it never fails for what another process wrote meanwhile.
        On PostgreSQL a commit whose answer was lost is looked up once the server is back: the transaction has been
        done, or `ConnectionLostError` says that it has not.

        Args:
            fenced: refuse it to a thread that has lost a lease.

        Raises:
            sqlalchemy.exc.IntegrityError: if a constraint is violated, for the caller to interpret.
            RunLockedError: if this thread has lost a lease that it took; nothing was written.
            ConnectionLostError: if the server is out of reach; nothing was written, do it again (`retried` methods do).
        """
        if self.read_only:
            raise DatabaseError(f"database {self.name} was opened read-only; nothing can be changed through it")
        receipt: Receipt | None = None
        try:
            with self._writer.begin() as connection:
                if fenced:
                    self.held_leases.check(connection)
                yield connection
                receipt = leave_receipt(connection)
        except IntegrityError:
            raise
        except DamagedCellError as error:
            raise self._damage(error) from error
        except (DBAPIError, sqlite3.Error) as error:
            found = self._error(error)
            lost = isinstance(found, ConnectionLostError)
            if receipt is None or not lost or not self._was_committed(receipt):
                raise found from error

    def close(self) -> None:
        """Close all pooled connections; the database opens new ones when it is used again."""
        self.engine.dispose()

    def __getstate__(self) -> dict[str, Any]:
        """The URL (with its password) and how it is opened are all that is passed to another process.

        The URL as such: its text is not always read back as the same, where a path has a `?` or a `%` in it.
        """
        if self.url.get_backend_name() == "sqlite" and in_memory(self.url):
            raise TypeError("an in-memory database cannot be given to another process; use sqlite:///path/to/file.db")
        return {"url": self.url, "read_only": self.read_only, "retry_seconds": self._retry_seconds}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._open(read_url(state["url"]), state["read_only"], state["retry_seconds"])

    def _check_schema(self) -> None:
        with self.read() as connection:
            check_schema(connection, self.name)

    def _migrate(self) -> None:
        """Processes that start together take turns; all but the first find it done."""
        with self.read() as connection:
            found = is_up_to_date(connection, self.name)
        if not found:
            with self.write() as connection:
                bring_up_to_date(connection, self.name)
        if self.url.get_backend_name() == "postgresql":
            with self.write() as connection:
                drop_old_receipts(connection)

    def _was_committed(self, receipt: Receipt) -> bool:
        def look() -> bool:
            try:
                with self._writer.begin() as connection:
                    return was_committed(connection, receipt)
            except DBAPIError as error:
                raise self._error(error) from error

        return self.retry.run(look)

    def _error(self, error: DBAPIError | sqlite3.Error) -> DatabaseError:
        found = " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())
        if is_lost(error):
            return ConnectionLostError(f"database {self.name}: the server is out of reach ({found})")
        return DatabaseError(f"database {self.name}: {found}; is it reachable, writable and not full?")

    def _damage(self, error: DamagedCellError) -> DamagedRowError:
        with self.read() as connection:
            found = describe(damaged_cells(connection))
        return DamagedRowError(f"database {self.name} is damaged: {found or error}")

    def _create_engine(self) -> Engine:
        if self.url.get_backend_name() == "sqlite":
            self._check_file()
        try:
            return make_engine(self.url, read_only=self.read_only)
        except (NoSuchModuleError, ModuleNotFoundError) as error:
            raise InputError(
                f"database {self.name}: no driver for {self.url.drivername!r} ({error}); "
                "for PostgreSQL install glorasearch[postgresql]"
            ) from error

    def _check_file(self) -> None:
        if in_memory(self.url) or (self.url.database or "").startswith("file:"):
            return
        path = Path(self.url.database or "")
        if not path.parent.is_dir():
            raise InputError(f"database {self.name}: the folder {path.parent} does not exist; create it first")
        if self.read_only and not path.is_file():
            raise DatabaseError(f"database {self.name}: there is no such file; start a run to create it")


def as_database(database: str | URL | Database) -> Database:
    """The database itself, or the one at a URL."""
    return database if isinstance(database, Database) else Database(database)
