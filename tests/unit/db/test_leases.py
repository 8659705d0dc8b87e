"""Leases: one owner at a time, however it ends. The owners are real processes."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, text, update

from glorasearch.db import Database, Leases, ProcessIdentity, RunStore, TrialStorage
from glorasearch.db.lease_table import LeaseHolder, find_holders
from glorasearch.db.models import LeaseRow, table_of
from glorasearch.errors import RunLockedError

LEASES = table_of(LeaseRow)
SECONDS = 1.0
DEADLINE_SECONDS = 60.0
HOLD = """
import sys
from glorasearch.db import Database, Leases, RunStore
database = Database(sys.argv[1])
with Leases(database, float(sys.argv[2])).hold("lease", "run 'x'") as lease:
    print("held", flush=True)
    sys.stdin.readline()
    try:
        RunStore(database).create("late", {}, "")
    finally:
        print("over", flush=True)
"""


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def leases(database: Database) -> Leases:
    return Leases(database, SECONDS)


@contextmanager
def owner(url: str, seconds: float = SECONDS) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lease until it gets a line."""
    command = [sys.executable, "-c", HOLD, url, str(seconds)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def move(database: Database, host: str = "elsewhere") -> None:
    """Have the lease belong to a process of another host."""
    with database.write() as connection:
        connection.execute(update(LEASES).values(host=host))


def beats(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(select(LEASES.c.beats)).scalar_one())


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def refused(leases: Leases, message: str) -> None:
    with pytest.raises(RunLockedError, match=message), leases.hold("lease", "run 'x'"):
        pass


def test_a_lease_is_held_once_and_then_free(leases: Leases, database: Database) -> None:
    for _ in range(2):
        with leases.hold("lease", "run 'x'") as lease:
            refused(leases, rf"run 'x' is being worked on by process {os.getpid()} on .*; wait for it or stop it")
            with leases.hold("other", "run 'y'"):
                pass
            until(lambda: beats(database) >= 2)
            lease.check()
            assert holders(database)["lease"].owner == ProcessIdentity.current()
        assert holders(database) == {}


def holders(database: Database) -> dict[str, LeaseHolder]:
    with database.read() as connection:
        return find_holders(connection, ["lease", "other"])


def test_of_many_that_start_together_one_gets_it(leases: Leases) -> None:
    held: list[int] = []
    errors: list[str] = []
    start, over = threading.Barrier(6), threading.Barrier(6)

    def work(index: int) -> None:
        start.wait(DEADLINE_SECONDS)
        try:
            with leases.hold("lease", "run 'x'"):
                held.append(index)
                over.wait(DEADLINE_SECONDS)
        except RunLockedError as error:
            errors.append(str(error))
            over.wait(DEADLINE_SECONDS)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(held), len(errors)) == (1, 5)


def test_another_process_is_refused_until_the_owner_is_killed(leases: Leases, database_url: str) -> None:
    with owner(database_url, seconds=1000.0) as process:
        refused(leases, rf"run 'x' is being worked on by process {process.pid} on ")
        process.kill()
        process.wait()
        with leases.hold("lease", "run 'x'"):
            pass


def test_an_owner_elsewhere_whose_heart_beats_keeps_it(
    leases: Leases, database: Database, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with owner(database_url):
        move(database)
        refused(leases, r"run 'x' is being worked on by process \d+ on elsewhere \(its last heartbeat came 0 s ago\)")
    assert "on elsewhere, last heartbeat 0 s ago; watching for 1 s whether it is alive" in caplog.text


def test_an_owner_elsewhere_whose_heart_has_stopped_loses_all_that_it_had(
    leases: Leases, database: Database, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with owner(database_url) as process:
        process.kill()
        process.wait()
        move(database, host=f"elsewhere-{process.pid}")
        with database.write() as connection:
            row = connection.execute(select(LEASES)).mappings().one()
            connection.execute(LEASES.insert().values({**row, "name": "second"}))
        with leases.hold("lease", "run 'x'"), leases.hold("second", "study 'x'"):
            pass
    assert caplog.text.count("watching for") == 1
    assert caplog.text.count("which is gone") == 2


def test_a_paused_owner_stops_and_changes_nothing(leases: Leases, database: Database, database_url: str) -> None:
    with owner(database_url) as process:
        process.send_signal(signal.SIGSTOP)
        move(database)
        with leases.hold("lease", "run 'x'"):
            process.send_signal(signal.SIGCONT)
            output, errors = process.communicate("go on\n", timeout=DEADLINE_SECONDS)
            refused(leases, f"by process {os.getpid()} on ")
    assert (output, process.returncode) == ("over\n", 1)
    assert f"RunLockedError: run 'x' was taken over by process {os.getpid()} on" in errors
    assert "it stops here and has changed nothing since" in errors
    assert RunStore(database).list() == []


def test_work_outside_of_the_database_can_ask(leases: Leases, database: Database) -> None:
    with leases.hold("lease", "run 'x'") as lease:
        _take_away(database, "lease")
        until(lambda: _is_lost(lease.check))
        with pytest.raises(RunLockedError, match="run 'x' was released by somebody else"):
            lease.check()


def _take_away(database: Database, name: str) -> None:
    """As a person would who deletes the row."""
    with database.write(fenced=False) as connection:
        connection.execute(text("DELETE FROM glorasearch_leases WHERE name = :name"), {"name": name})


def _is_lost(check: Callable[[], None]) -> bool:
    try:
        check()
    except RunLockedError:
        return True
    return False


def test_only_the_thread_that_took_it_is_stopped(leases: Leases, database: Database) -> None:
    store = RunStore(database)
    with leases.hold("lease", "run 'x'"):
        _take_away(database, "lease")
        other = threading.Thread(target=store.create, args=("other", {}, ""))
        other.start()
        other.join()
        with pytest.raises(RunLockedError):
            store.create("own", {}, "")
    assert [run.name for run in store.list()] == ["other"]


def test_a_fork_of_the_owner_does_not_return_it(leases: Leases) -> None:
    with leases.hold("lease", "run 'x'") as lease:
        child = os.fork()
        if child == 0:
            try:
                lease.release()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        lease.check()
        refused(leases, "being worked on")


def test_the_lock_of_a_study(database: Database) -> None:
    storage = TrialStorage(database)
    with storage.lock_study("study"), storage.lock_study("other"):
        with pytest.raises(RunLockedError, match="study 'study' is being worked on by"), storage.lock_study("study"):
            pass
        with pytest.raises(RunLockedError), TrialStorage(database.url).lock_study("study"):
            pass


def test_processes_of_another_boot_or_container_are_elsewhere(tmp_path: Path) -> None:
    me = ProcessIdentity.current()
    assert (me.is_here, me.is_alive) == (True, True)
    boot, namespace, start = me.started.partition(":")[0], *me.started.partition(":")[2].rpartition(":")[::2]
    assert not replace(me, started=f"{boot}:{namespace}:{float(start) - 60:.2f}").is_alive  # its id, used again
    for started in (f"{boot}0:{namespace}:{start}", f"{boot}:pid:[1]:{start}"):
        other = replace(me, started=started)
        assert (other.is_here, other.is_alive) == (False, True)
