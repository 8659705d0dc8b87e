"""Worker processes: one a device or a group of cores, each doing units one after the other until it is told to stop."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from glorasearch.errors import InputError
from suite_parts.units import Unit

STOP_SECONDS = 30.0
"""Between asking a worker to stop and killing it."""
LOOK_SECONDS = 1.0

Say = Callable[[str], None]
"""Says how far a unit is."""
Perform = Callable[[Unit, Say], None]
"""Does a unit and keeps what it found."""


class UnderWayError(Exception):
    """Another process is doing this unit, or works on a run that it needs."""


@dataclass(frozen=True)
class _Note:
    """What a worker sends while it works."""

    text: str


@dataclass(frozen=True)
class _End:
    """What a worker sends when it is through with a unit."""

    error: str | None = None
    elsewhere: bool = False


@dataclass(frozen=True)
class Place:
    """Where a worker computes."""

    number: int
    gpu: str | None
    """What `CUDA_VISIBLE_DEVICES` is set to; None on CPUs."""
    threads: int
    sharing: int = 1
    """Workers on its GPU."""


class _Worker:
    """A process, and the unit that it is doing."""

    def __init__(self, place: Place, make: Callable[[Place], Perform]) -> None:
        context = multiprocessing.get_context("spawn")
        self.place = place
        self.unit: Unit | None = None
        self.note = ""
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(place, make, theirs))
        self.process.start()
        theirs.close()

    def give(self, unit: Unit) -> None:
        self.unit, self.note = unit, ""
        self.connection.send(unit)

    def __str__(self) -> str:
        """What it is doing."""
        return f"{self.unit.name if self.unit else 'idle'}{self.note and f' ({self.note})'}"


@dataclass
class Outcome:
    """How far the units came."""

    finished: list[Unit]
    failed: dict[Unit, str]
    left: list[Unit]
    elsewhere: list[Unit] = field(default_factory=list)
    """Another process is doing them."""

    @property
    def through(self) -> int:
        """Units that nothing more is done about."""
        return len(self.finished) + len(self.failed) + len(self.elsewhere)


def perform(
    units: Sequence[Unit],
    places: Sequence[Place],
    make: Callable[[Place], Perform],
    *,
    deadline: float | None,
    on_change: Callable[[int, Sequence[str]], None],
) -> Outcome:
    """Do units, each in one of the places, and return how far they came.

    Args:
        units: in the order in which they start; one that another process is doing comes again after the others.
        places: one process each.
        make: called in each process; what it returns does a unit.
        deadline: on `time.monotonic`, when the running units are interrupted; they continue in the next call.
        on_change: called with the number of units that it is through with, and what is under way, in words.
    """
    waiting, outcome, put_off = deque(units), Outcome([], {}, []), set[Unit]()
    workers = [_Worker(place, make) for place in places[: len(waiting)]]
    try:
        for worker in workers:
            worker.give(waiting.popleft())
        while any(worker.unit for worker in workers):
            on_change(outcome.through, [str(w) for w in workers if w.unit])
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            ready = wait([w.connection for w in workers if w.unit], LOOK_SECONDS if left is None else min(left, 1.0))
            for place, worker in enumerate(workers):
                if worker.connection in ready:
                    unit = worker.unit
                    workers[place] = _receive(worker, make, outcome)
                    others = any(other.unit for other in workers) or any(one not in put_off for one in waiting)
                    if unit in outcome.elsewhere and others:  # what it waits for may be done by then
                        outcome.elsewhere.remove(unit)
                        put_off.add(unit)
                        waiting.append(unit)
                    if waiting and not workers[place].unit:
                        workers[place].give(waiting.popleft())
    finally:
        interrupted = [worker.unit for worker in workers if worker.unit]
        _stop(workers)
    outcome.left = [*interrupted, *waiting]
    on_change(outcome.through, [])
    return outcome


def _receive(worker: _Worker, make: Callable[[Place], Perform], outcome: Outcome) -> _Worker:
    """Take down what a worker says; the worker, or another one if it has died."""
    unit, worker_now = worker.unit, worker
    assert unit is not None
    try:
        said: _Note | _End = worker.connection.recv()
    except EOFError:
        worker.process.join()
        said = _End(f"its process ended with code {worker.process.exitcode}")
        worker_now = _Worker(worker.place, make)
    if isinstance(said, _Note):
        worker.note = said.text
        return worker
    worker.unit = None
    if said.elsewhere:
        outcome.elsewhere.append(unit)
    elif said.error is None:
        outcome.finished.append(unit)
    else:
        outcome.failed[unit] = said.error
    return worker_now


def _stop(workers: Sequence[_Worker]) -> None:
    """End all workers: idle ones at once, others as on Ctrl+C, and those that do not obey by force."""
    for worker in workers:
        worker.connection.close()
        if worker.unit and worker.process.is_alive():
            worker.process.terminate()
    until = time.monotonic() + STOP_SECONDS
    for worker in workers:
        worker.process.join(max(0.0, until - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _serve(place: Place, make: Callable[[Place], Perform], connection: Connection[Any, Any]) -> None:
    """The main function of a worker."""
    if place.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = place.gpu
    os.environ["OMP_NUM_THREADS"] = str(place.threads)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C reaches the process that started this one, which asks it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        do = make(place)
        while True:
            unit = connection.recv()
            connection.send(_attempt(do, unit, _teller(connection)))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass  # nothing more to do, or interrupted


def _attempt(do: Perform, unit: Unit, say: Say) -> _End:
    """Do a unit; returns how that ended."""
    try:
        do(unit, say)
    except UnderWayError:
        return _End(elsewhere=True)
    except InputError as error:
        return _End(str(error))
    except Exception:
        return _End(traceback.format_exc())
    return _End()


def _teller(connection: Connection[Any, Any]) -> Say:
    """Sends what is said, at most once a second."""
    last = 0.0

    def say(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= LOOK_SECONDS:
            last = time.monotonic()
            with suppress(OSError):  # nobody listens any more: this process is about to be told
                connection.send(_Note(text))

    return say


def _interrupt(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the clean-up is not interrupted
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """Stop this process when the one that started it is gone, however that ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
