"""Processes side by side: each has a place on one card, or on several, until it ends or the time is up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from gpu_tests.cards import VISIBLE
from gpu_tests.record import Line, append, read
from gpu_tests.units import Unit, environment, pytest_command

END_SECONDS: Final = 10.0
"""For a process to end by itself once the time is up."""


@dataclass(frozen=True, slots=True)
class Running:
    """A unit at work."""

    unit: Unit
    cards: tuple[str, ...]
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    began: float


class Lanes:
    """Runs units on cards.

    Args:
        root: the checkout whose tests they are.
        cards: their names, as CUDA_VISIBLE_DEVICES has them.
        each: processes on a card at a time.
        record: the file in which tests are told of.
        output: a file that what the processes print is appended to, when they end.
        say: prints a line.
        python: the interpreter.
    """

    def __init__(
        self,
        root: Path,
        cards: Sequence[str],
        each: int,
        record: Path,
        output: Path,
        say: Callable[[str], None] = lambda line: None,
        python: str = sys.executable,
    ) -> None:
        self._root, self._record, self._output, self._say, self._python = root, record, output, say, python
        self._free = dict.fromkeys(cards, each)
        self._running: dict[Future[int], Running] = {}

    def run(self, units: Sequence[Unit], deadline: float) -> bool:
        """Run all, in this order as far as there are places; returns whether the time was up before the last ended.

        A unit whose process dies goes on behind the test that it died of, in a new process.

        Args:
            units: none needs more cards than there are.
            deadline: of `time.monotonic`.
        """
        waiting = list(units)
        with ThreadPoolExecutor(sum(self._free.values())) as pool:
            try:
                while waiting or self._running:
                    self._start(waiting, pool)
                    done, _ = wait(self._running, max(0.0, deadline - time.monotonic()), FIRST_COMPLETED)
                    if not done:
                        return True
                    waiting[:0] = [rest for future in done if (rest := self._end(future)).tests]
                return False
            finally:
                self._stop()

    def _start(self, waiting: list[Unit], pool: ThreadPoolExecutor) -> None:
        for unit in tuple(waiting):
            cards = self._places(unit.cards)
            if not cards:
                continue
            waiting.remove(unit)
            for card in cards:
                self._free[card] -= 1
            log = tempfile.TemporaryFile()  # noqa: SIM115
            process = subprocess.Popen(
                [*pytest_command(self._python), *unit.tests],
                cwd=self._root, env={**environment(self._record), VISIBLE: ",".join(cards)},
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            self._running[pool.submit(process.wait)] = Running(unit, cards, process, log, time.monotonic())

    def _places(self, count: int) -> tuple[str, ...]:
        """Cards with a free place, those with most of them first; none if there are too few."""
        free = sorted((card for card, places in self._free.items() if places), key=lambda card: -self._free[card])
        return tuple(sorted(free[:count], key=list(self._free).index)) if len(free) >= count else ()

    def _end(self, future: Future[int]) -> Unit:
        """Note how a process ended; returns what of its unit has not begun."""
        running = self._running.pop(future)
        for card in running.cards:
            self._free[card] += 1
        lines = [line for line in read(self._record) if line["process"] == running.process.pid]
        left = running.unit.without(line["test"] for line in lines if line["event"] == "begun")
        broke = [line for line in lines if line["event"] == "broken"]
        status = future.result()
        with suppress(ProcessLookupError):  # what it has left behind would go on using its cards
            os.killpg(running.process.pid, signal.SIGKILL)
        self._keep(running, f"exit {status}")
        took = time.monotonic() - running.began
        self._say(f"{running.unit} on {','.join(running.cards)}: exit {status} after {took:.0f} s")
        if status in (0, 1) and not left.tests:
            return left
        if died := _under_way(lines):
            append(self._record, "died", died, message=f"its process ended with {status} in the middle of it")
            return left
        for test in left.tests:  # nothing has begun that could be at fault, so that another process would do no more
            why = "; ".join(line["message"] for line in broke) or f"its process ended with {status} before it"
            append(self._record, "died", test, message=why)
        return left.without(left.tests)

    def _keep(self, running: Running, end: str) -> None:
        """Append what a process printed to the common file."""
        running.log.seek(0)
        with self._output.open("ab") as output:
            output.write(f"\n===== {running.unit} on {','.join(running.cards)}: {end}\n".encode())
            output.write(running.log.read())
        running.log.close()

    def _stop(self) -> None:
        """End what still runs: by Ctrl+C, and so with its servers, if it heeds that."""
        for running in self._running.values():
            running.process.send_signal(signal.SIGINT)
        wait(self._running, END_SECONDS)
        for running in self._running.values():
            with suppress(ProcessLookupError):  # the group is gone with its last process
                os.killpg(running.process.pid, signal.SIGKILL)
            running.process.wait()
            self._keep(running, "the time was up")
        self._running.clear()


def _under_way(lines: Sequence[Line]) -> str:
    """The test that had begun and not ended."""
    begun = [line["test"] for line in lines if line["event"] == "begun"]
    ended = {line["test"] for line in lines if line["event"] == "ended"}
    return begun[-1] if begun and begun[-1] not in ended else ""
