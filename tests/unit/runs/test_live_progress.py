"""What a run records of its progress, and when."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from glorasearch.db import RunState, RunStore, StageProgress, StageState
from glorasearch.errors import ConnectionLostError
from glorasearch.runs.live_progress import LiveProgress
from glorasearch.runs.progress import Advance, Silent


@pytest.fixture
def store(database_url: str) -> Iterator[RunStore]:
    store = RunStore(database_url)
    store.create("run", {}, "")
    store.set_state("run", RunState.RUNNING)
    yield store
    store.database.close()


def latest(store: RunStore) -> StageProgress:
    return store.progress("run")[-1]


class Heard(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        self.told.append((title, total))
        yield lambda done, note="": self.told.append((done, note))


def test_a_stage_is_there_from_its_start_to_its_end_and_shown_as_before(store: RunStore) -> None:
    heard, before = Heard(), datetime.now(UTC)
    progress = LiveProgress(heard, store, "run", interval=0)
    with progress.task("before any stage", 1) as advance:
        advance(1, "")
    assert store.progress("run") == []
    with progress.stage("train"):
        started = latest(store)
        assert (started.stage, started.state, started.total) == ("train", StageState.RUNNING, 0)
        assert before <= started.started <= started.updated <= datetime.now(UTC)
        with progress.task("supernet", 10) as advance:
            advance(4, "loss 0.5")
            with progress.task("reading images, %", 100) as read:
                read(50, "")
                assert latest(store).title == "reading images, %"
                read(100, "")
            advance(5, "loss \x1b0.4")
            now = latest(store)
            assert (now.title, now.note, now.done, now.total, now.first_done) == (
                "supernet",
                "loss \\x1b0.4",
                5,
                10,
                4,
            )
            assert now.rate is not None
    ended = latest(store)
    assert (ended.state, ended.done, ended.started) == (StageState.FINISHED, 5, started.started)
    assert heard.told[2:4] == [("supernet", 10), (4, "loss 0.5")]
    assert heard.told[-1] == (5, "loss \x1b0.4")


@pytest.mark.parametrize(("error", "state"), [(RuntimeError, "failed"), (KeyboardInterrupt, "stopped")])
def test_what_ends_a_stage_is_told_apart(store: RunStore, error: type[BaseException], state: str) -> None:
    progress = LiveProgress(Silent(), store, "run")
    with pytest.raises(error), progress.stage("refit"), progress.stage("refit:fold1"):
        raise error
    assert {row.stage: row.state for row in store.progress("run")} == {"refit": state, "refit:fold1": state}


class Counted(RunStore):
    """Counts what is written, and fails on demand."""

    lost = False
    writes = 0

    def set_progress(self, name: str, row: StageProgress, *, wait: bool = True) -> None:
        self.writes += 1
        if self.lost and not wait:
            raise ConnectionLostError("the server is out of reach")
        super().set_progress(name, row, wait=wait)


def test_a_thousand_steps_in_a_moment_are_not_written_one_by_one(store: RunStore) -> None:
    counted = Counted(store.database)
    progress = LiveProgress(Silent(), counted, "run", interval=3_600)
    with progress.stage("train"), progress.task("supernet", 1_000) as advance:
        for step in range(1_000):
            advance(step + 1, "")
    assert counted.writes == 2
    assert (latest(store).done, latest(store).state) == (1_000, StageState.FINISHED)


def test_a_stage_goes_on_while_the_server_is_away(store: RunStore) -> None:
    counted = Counted(store.database)
    progress = LiveProgress(Silent(), counted, "run", interval=0)
    with progress.stage("train"), progress.task("supernet", 10) as advance:
        counted.lost = True
        advance(5, "")
        assert latest(store).done == 0
        counted.lost = False
        advance(6, "")
        assert latest(store).done == 6
