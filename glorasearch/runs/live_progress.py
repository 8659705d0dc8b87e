"""The progress of a run, shown by whoever started it and kept in the database for everyone else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from glorasearch.db import RunStore, StageProgress, StageState, WorkerRecord, WorkerStore
from glorasearch.errors import ConnectionLostError, DatabaseError
from glorasearch.interrupts import is_interrupt
from glorasearch.runs.progress import Advance, Progress
from glorasearch.runs.telemetry.observer import Observer
from glorasearch.runs.throttle import INTERVAL, Throttle
from glorasearch.terminal import shown

if TYPE_CHECKING:
    from glorasearch.search import Executor, SearchProgress, WorkerStatus

LONGEST: Final = 500
"""Characters of a title or note that are kept."""


class LiveProgress:
    """Shows work by another `Progress`, and records how far the stage that it belongs to is.

    A stage's start and end are written at once, what lies between at most once a second, and less often where the
    database is slow. While the database is out of reach nothing is written between, and nothing waits.
    """

    def __init__(self, progress: Progress, runs: RunStore, run: str, *, interval: float = INTERVAL) -> None:
        """For a run that need not be in the database before its first stage; an interval of 0 writes everything."""
        self._progress, self._runs, self._run, self._interval = progress, runs, run, interval
        self._open: list[_Stage] = []
        self.observers: list[Observer] = []
        self._of_staff, self._searching = Throttle(interval), datetime.now(UTC)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Record a stage, or a part of one, and the work in it."""
        stage = _Stage(self._runs, self._run, name, self._interval)
        self._open.append(stage)
        for observer in self.observers:
            observer.started(name)
        state, why = StageState.FINISHED, None
        try:
            yield
        except BaseException as error:
            state, why = StageState.STOPPED if is_interrupt(error) else StageState.FAILED, error
            raise
        finally:
            self._open.remove(stage)
            for observer in self.observers:
                observer.ended(name, state, why)
            stage.end(state)

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """A bar for work of `total` units, which is what the innermost open stage is doing."""
        if not self._open:
            with self._progress.task(title, total) as advance:
                yield advance
            return
        stage = self._open[-1]
        with self._progress.task(title, total) as show, stage.task(title, total):

            def both(done: int, note: str = "") -> None:
                show(done, note)
                stage.advance(done, note)
                for observer in self.observers:
                    observer.advanced(stage.name, done, total)

            yield both

    def searching(self, executor: Executor) -> None:
        """The evaluation of candidates begins."""
        self._searching = datetime.now(UTC)
        with suppress(ConnectionLostError), self._of_staff.write():
            self._record(executor.staff)

    def searched(self, progress: SearchProgress, executor: Executor) -> None:
        """Tell the observers that a trial of the search has finished, and record who evaluates."""
        staff = executor.staff
        for observer in self.observers:
            observer.searched(progress)
            observer.staffed(sum(one.ready for one in staff), len(staff))
        if self._of_staff.due or progress.done >= progress.trials:
            with suppress(ConnectionLostError), self._of_staff.write():
                self._record(staff)

    def _record(self, staff: Sequence[WorkerStatus]) -> None:
        now = datetime.now(UTC)
        rows = [WorkerRecord(**asdict(one), since=self._searching, updated=now) for one in staff]
        WorkerStore(self._runs.database).record(self._run, rows)

    def say(self, text: str) -> None:
        """A line that stays."""
        self._progress.say(text)


class _Stage:
    """The row of one stage."""

    def __init__(self, runs: RunStore, run: str, name: str, interval: float) -> None:
        self._runs, self._run, self.name, self._throttle = runs, run, name, Throttle(interval)
        now = datetime.now(UTC)
        self._row = StageProgress(stage=name, state=StageState.RUNNING, started=now, updated=now)
        self._done: int | None = None  # what has come since `_row`, which is made where it is needed only
        self._note = ""
        self._write(wait=True)

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[None]:
        """What is being done; what it interrupts goes on after it, and of several the last one is remembered."""
        outer, note = self._now(), self._note
        begun = replace(outer, title=_kept(title), done=0, total=max(0, total), first_done=0, first_at=None)
        self._row, self._done, self._note = begun, None, ""
        self._write_if_due()
        yield
        if outer.total and outer.done < outer.total:
            self._row, self._done, self._note = outer, None, note

    def advance(self, done: int, note: str) -> None:
        """Units done so far; written if it is time."""
        if self._row.first_at is None:
            self._row = replace(self._row, first_done=done, first_at=datetime.now(UTC))
        self._done, self._note = done, note
        self._write_if_due()

    def end(self, state: StageState) -> None:
        """Record how it ended. What fails now must not hide why the stage did."""
        self._row = replace(self._now(), state=state)
        try:
            self._write(wait=True)
        except DatabaseError:
            if state is StageState.FINISHED:
                raise

    def _now(self) -> StageProgress:
        done = self._row.done if self._done is None else self._done
        return replace(self._row, done=done, note=_kept(self._note))

    def _write_if_due(self) -> None:
        if self._throttle.due:
            with suppress(ConnectionLostError):  # the run's next record waits for the server
                self._write(wait=False)

    def _write(self, *, wait: bool) -> None:
        self._row = replace(self._now(), updated=datetime.now(UTC))
        with self._throttle.write():
            self._runs.set_progress(self._run, self._row, wait=wait)


def _kept(text: str) -> str:
    return shown(text)[:LONGEST]
