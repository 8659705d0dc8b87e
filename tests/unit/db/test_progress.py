"""How far the stages of a run are, by the database alone."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from glorasearch.db import RunState, RunStore, StageProgress, StageState, WorkerRecord, WorkerStore
from glorasearch.errors import RunNotFoundError

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
TRAIN = StageProgress(
    stage="train",
    state=StageState.RUNNING,
    started=NOW,
    updated=NOW + timedelta(seconds=12),
    title="supernet of glora-small",
    note="loss 0.532",
    done=500,
    total=2_000,
    first_done=400,
    first_at=NOW + timedelta(seconds=2),
)


@pytest.fixture
def store(database_url: str) -> Iterator[RunStore]:
    store = RunStore(database_url)
    store.create("run", {}, "")
    yield store
    store.database.close()


def test_a_stage_is_replaced_by_what_is_newer_and_stages_keep_the_order_in_which_they_began(store: RunStore) -> None:
    store.create("other", {}, "")
    store.set_state("run", RunState.RUNNING)
    later = replace(TRAIN, stage="search", started=NOW + timedelta(minutes=1), total=0, first_at=None)
    for row in (later, replace(TRAIN, done=1), TRAIN):
        store.set_progress("run", row)
    assert store.progress("run") == [TRAIN, later]
    assert store.progress("other") == []
    store.delete("run")
    store.create("run", {}, "")
    assert store.progress("run") == []
    with pytest.raises(RunNotFoundError, match="no run 'none'"):
        store.progress("none")
    with pytest.raises(RunNotFoundError, match="no run 'none'"):
        store.set_progress("none", TRAIN)


def test_the_workers_of_a_run_are_those_that_it_has_now(store: RunStore) -> None:
    workers = WorkerStore(store.database)
    store.create("other", {}, "")
    one = WorkerRecord(
        number=0, host="gpu1", process=7, ready=True, tasks=3, busy=1.5, since=NOW, updated=NOW + timedelta(seconds=2)
    )
    waiting = replace(one, number=1, host="", process=0, ready=False, tasks=0, busy=0.0)
    workers.record("run", [waiting, one])
    assert workers.list("run") == [one, waiting]
    assert [each.share for each in workers.list("run")] == [0.75, 0]
    workers.record("run", [one])
    assert workers.list("run") == [one]
    assert workers.list("other") == []
    store.delete("run")
    for call in (lambda: workers.list("run"), lambda: workers.record("run", [one])):
        with pytest.raises(RunNotFoundError, match="no run 'run'"):
            call()


def test_rate_and_time_left_are_of_what_this_attempt_has_done() -> None:
    assert TRAIN.rate == pytest.approx(10.0)
    assert TRAIN.seconds == 12
    assert TRAIN.seconds_left(TRAIN.updated) == pytest.approx(150.0)
    assert TRAIN.seconds_left(TRAIN.updated + timedelta(seconds=30)) == pytest.approx(120.0)
    assert TRAIN.seconds_left(TRAIN.updated + timedelta(hours=1)) == 0
    for unknown in (replace(TRAIN, total=0), replace(TRAIN, done=400), replace(TRAIN, state=StageState.FINISHED)):
        assert unknown.seconds_left() is None


def test_the_stages_of_a_killed_run_were_interrupted_but_for_those_that_have_a_result(store: RunStore) -> None:
    script = (
        "import sys\nfrom glorasearch.db import RunStore\n"
        f"store = RunStore({store.database.url.render_as_string(hide_password=False)!r})\n"
        "with store.lock('run'):\n"
        "    store.set_state('run', 'running')\n"
        "    print('locked', flush=True)\n"
        "    sys.stdin.read()"
    )
    for name in ("train", "search"):
        store.set_progress("run", replace(TRAIN, stage=name))
    store.set_stage("run", "train", {})
    owner = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "locked\n"
    assert {row.stage: row.state for row in store.progress("run")} == {"train": "running", "search": "running"}
    owner.kill()
    owner.communicate()
    assert {row.stage: row.state for row in store.progress("run")} == {"train": "finished", "search": "interrupted"}
