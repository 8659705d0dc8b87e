import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from glorasearch.db import Database, ProcessIdentity, RunState, RunStore
from glorasearch.db.models import LeaseRow, table_of
from glorasearch.errors import DatabaseError, RunLockedError, RunNotFoundError


@pytest.fixture
def url(database_url: str) -> str:
    return database_url


@pytest.fixture
def store(url: str) -> Iterator[RunStore]:
    store = RunStore(url)
    yield store
    store.database.close()


def test_a_run_comes_back_as_it_was_made(store: RunStore) -> None:
    before = datetime.now(UTC)
    config = {"train": {"steps": 10, "rate": 1e-3, "limit": math.inf}}
    made = store.create("run", config, "digest")
    assert store.get("run") == made
    assert (made.name, made.config, made.digest, made.state) == ("run", config, "digest", RunState.CREATED)
    assert before <= made.created <= datetime.now(UTC)
    assert made.owner is None
    assert made.stages == {}
    assert store.get("other") is None


def test_runs_are_listed_in_the_order_of_their_creation(store: RunStore) -> None:
    for name in ("b", "a", "c"):
        store.create(name, {}, "")
    assert [run.name for run in store.list()] == ["b", "a", "c"]
    store.delete("a")
    assert [run.name for run in store.list()] == ["b", "c"]


def test_a_name_is_taken_once(store: RunStore) -> None:
    store.create("run", {}, "")
    with pytest.raises(DatabaseError, match="'run' exists already"):
        store.create("run", {}, "")


def test_an_unknown_run_is_named_with_those_that_exist(store: RunStore) -> None:
    store.create("known", {}, "")
    with pytest.raises(RunNotFoundError, match="no run 'unknown'; the newest in this database are: known"):
        store.set_state("unknown", RunState.RUNNING)


def test_a_state_may_be_text_but_must_be_known(store: RunStore) -> None:
    store.create("run", {}, "")
    store.set_state("run", "failed", error="out of memory")
    run = store.get("run")
    assert run is not None
    assert (run.state, run.error) == (RunState.FAILED, "out of memory")
    with pytest.raises(ValueError, match="'lost' is not a valid RunState"):
        store.set_state("run", "lost")


def test_stages_keep_their_results_in_the_order_in_which_they_finished(store: RunStore) -> None:
    store.create("run", {}, "")
    store.set_stage("run", "train", {"weights": "abc"})
    store.set_stage("run", "search", {"winner": 3, "score": math.nan})
    run = store.get("run")
    assert run is not None
    assert list(run.stages) == ["train", "search"]
    assert math.isnan(run.stages["search"]["score"])
    store.set_stage("run", "train", {"weights": "def"})
    run = store.get("run")
    assert run is not None
    assert run.stages["train"] == {"weights": "def"}


def test_metrics_of_a_repeated_step_replace_the_old_ones(store: RunStore) -> None:
    store.create("run", {}, "")
    store.record_metrics("run", "train", 10, {"loss": 2.0, "rate": 0.1})
    store.record_metrics("run", "train", 10, {"loss": 1.0})
    store.record_metrics("run", "train", 2, {"loss": math.inf})
    store.record_metrics("run", "refit", 1, {"loss": math.nan})
    store.record_metrics("run", "refit", 2, {})
    found = [(metric.step, metric.name, metric.value) for metric in store.metrics("run", "train")]
    assert found == [(2, "loss", math.inf), (10, "loss", 1.0), (10, "rate", 0.1)]
    assert [metric.stage for metric in store.metrics("run")] == ["refit", "train", "train", "train"]
    assert math.isnan(store.metrics("run", "refit")[0].value)


def test_a_deleted_run_takes_everything_with_it(store: RunStore) -> None:
    store.create("run", {}, "")
    store.set_stage("run", "train", {})
    store.record_metrics("run", "train", 1, {"loss": 1.0})
    store.delete("run")
    run = store.create("run", {}, "")
    assert (run.stages, store.metrics("run")) == ({}, [])


def test_a_locked_run_is_refused_to_all_others(store: RunStore, url: str) -> None:
    store.create("run", {}, "")
    with store.lock("run"):
        run = store.get("run")
        assert run is not None
        assert run.owner == ProcessIdentity.current()
        with pytest.raises(RunLockedError, match="being worked on by process"), store.lock("run"):
            pass
        script = f"from glorasearch.db import RunStore\nwith RunStore({url!r}).lock('run'): pass"
        refused = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert "RunLockedError: run 'run' is being worked on by process" in refused.stderr
    with store.lock("run"):
        pass


def test_the_lock_of_a_killed_process_is_taken_over(store: RunStore, url: str) -> None:
    store.create("run", {}, "")
    script = (
        "import sys\nfrom glorasearch.db import RunStore\n"
        f"store = RunStore({url!r})\n"
        "with store.lock('run'):\n"
        "    store.set_state('run', 'running')\n"
        "    print('locked', flush=True)\n"
        "    sys.stdin.read()"
    )
    owner = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "locked\n"
    run = store.get("run")
    assert run is not None
    assert run.state is RunState.RUNNING
    owner.kill()
    owner.communicate()
    run = store.get("run")
    assert run is not None
    assert run.state is RunState.INTERRUPTED
    with store.lock("run"):
        store.set_state("run", RunState.RUNNING)
        run = store.get("run")
        assert run is not None
        assert run.state is RunState.RUNNING


def test_a_process_id_used_again_is_not_its_old_owner(store: RunStore) -> None:
    store.create("run", {}, "")
    place = ProcessIdentity.current().started.rpartition(":")[0]
    _own(store, started=f"{place}:1")
    with store.lock("run"):
        owned = store.get("run")
        assert owned is not None
        assert owned.owner == ProcessIdentity.current()


def test_an_owner_whose_lease_was_deleted_cannot_write_any_more(store: RunStore, url: str) -> None:
    store.create("run", {}, "")

    def work(deleted: Callable[[], AbstractContextManager[object]]) -> None:
        with store.lock("run"):
            with Database(url).write() as connection:
                connection.execute(text("DELETE FROM glorasearch_leases"))
            with deleted():
                store.set_stage("run", "train", {})

    with pytest.raises(RunLockedError, match="run 'run' was released by somebody else"):
        work(nullcontext)
    with pytest.raises(RunLockedError, match=f"run 'run' was taken over by process {os.getpid()} on"):
        work(lambda: RunStore(url).lock("run"))
    run = store.get("run")
    assert run is not None
    assert (run.owner, run.stages) == (None, {})


def _own(store: RunStore, started: str) -> None:
    """Write an owner like this process, but for its start."""
    me = ProcessIdentity.current()
    values = {"name": "run:run", "token": "t", "host": me.host, "pid": me.pid, "started": started}
    with store.database.write() as connection:
        connection.execute(table_of(LeaseRow).insert().values(**values, seconds=30.0, beats=0, renewed=0.0))
