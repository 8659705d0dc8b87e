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
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from suite_parts.units import Unit

STOP_SECONDS = 30.0
"""Between asking a worker to stop and killing it."""
LOOK_SECONDS = 1.0

Perform = Callable[[Unit], None]
"""Does a unit and keeps what it found."""


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
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(place, make, theirs))
        self.process.start()
        theirs.close()

    def give(self, unit: Unit) -> None:
        self.unit = unit
        self.connection.send(unit)


@dataclass
class Outcome:
    """How far the units came."""

    finished: list[Unit]
    failed: dict[Unit, str]
    left: list[Unit]


def perform(
    units: Sequence[Unit],
    places: Sequence[Place],
    make: Callable[[Place], Perform],
    *,
    deadline: float | None,
    on_change: Callable[[int, Sequence[Unit]], None],
) -> Outcome:
    """Do units, each in one of the places, and return how far they came.

    Args:
        units: in the order in which they start.
        places: one process each.
        make: called in each process; what it returns does a unit.
        deadline: on `time.monotonic`, when the running units are interrupted; they continue in the next call.
        on_change: called with the number of units that are done, and those that are under way.
    """
    waiting, outcome = deque(units), Outcome([], {}, [])
    workers = [_Worker(place, make) for place in places[: len(waiting)]]
    try:
        for worker in workers:
            worker.give(waiting.popleft())
        while any(worker.unit for worker in workers):
            on_change(len(outcome.finished) + len(outcome.failed), [w.unit for w in workers if w.unit])
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            ready = wait([w.connection for w in workers if w.unit], LOOK_SECONDS if left is None else min(left, 1.0))
            for place, worker in enumerate(workers):
                if worker.connection in ready:
                    workers[place] = _receive(worker, make, outcome)
                    if waiting and not workers[place].unit:
                        workers[place].give(waiting.popleft())
    finally:
        interrupted = [worker.unit for worker in workers if worker.unit]
        _stop(workers)
    outcome.left = [*interrupted, *waiting]
    on_change(len(outcome.finished) + len(outcome.failed), [])
    return outcome


def _receive(worker: _Worker, make: Callable[[Place], Perform], outcome: Outcome) -> _Worker:
    """Take down what a worker says; the worker, or another one if it has died."""
    unit, worker_now = worker.unit, worker
    assert unit is not None
    try:
        error: str | None = worker.connection.recv()
    except EOFError:
        worker.process.join()
        error = f"its process ended with code {worker.process.exitcode}"
        worker_now = _Worker(worker.place, make)
    worker.unit = None
    if error is None:
        outcome.finished.append(unit)
    else:
        outcome.failed[unit] = error
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
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        do = make(place)
        while True:
            unit = connection.recv()
            connection.send(_attempt(do, unit))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass  # nothing more to do, or interrupted


def _attempt(do: Perform, unit: Unit) -> str | None:
    """Do a unit; returns what went wrong."""
    try:
        do(unit)
    except Exception:
        return traceback.format_exc()
    return None


def _interrupt(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the clean-up is not interrupted
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """Stop this process when the one that started it is gone, however that ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
