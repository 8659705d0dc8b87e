"""Every benchmark of a GPU, side by side on all cards, in a given time.

    make bench-gpu
    make bench-gpu GPU_PYTHON=python3 BENCH_OPTIONS="--minutes 9 --only peers,start --out bench-results/gpu"
    python benchmarks/all_on_gpus.py [--minutes 30] [--cards 0,1] [--only NAME,...] [--out FOLDER]

A program has a card for itself, or two; beside it others have theirs, and all share the host. They start in the order
of `PROGRAMS` as cards become free, that of two cards first. None starts that by its limit would not end in time, unless
it was named by `--only`; one that is over its limit is stopped, and what it has measured by then is kept. In `--out`,
NAME.json has the rows and the machine of each, NAME.log what it printed.

The exit status is 0 if all ran to their end, 1 if one failed, 3 if the time was up for one. Targets that are missed are
in the tables, and are no failure.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "scripts")]

from gpu_tests.cards import VISIBLE, cards_here  # noqa: E402

END_SECONDS = 10.0
"""For a program to end by itself after Ctrl+C."""


@dataclass(frozen=True)
class Program:
    """One benchmark."""

    command: str
    """Beside this file, with its options; `--json` is added."""
    seconds: float
    """After which it is stopped: some more than it takes on an H200."""
    cards: int = 1


PROGRAMS: dict[str, Program] = {
    "two": Program("bench_two_gpus.py --device cuda --seconds 230", 300, cards=2),
    "step": Program("bench_cuda.py --parts peak,step,everything,candidate", 240),
    "peers": Program("bench_peers.py --seconds 280", 340),
    "job": Program("bench_cuda.py --parts job,search,bf16", 420),
    "variants": Program("bench_variants.py --seconds 350", 420),
    "finalists": Program("bench_finalists.py", 300),
    "start": Program("bench_start.py --device cuda --repeats 3 --phases", 240),
    "augment": Program("bench_augment.py", 120),
    "families": Program("bench_families.py", 600),
    "stacks": Program("bench_stacks.py", 150),
    "serving": Program("bench_serving.py --device cuda", 90),
    "dinov2": Program("bench_larger.py --models dinov2", 300),
    "eva02": Program("bench_larger.py --models eva02", 300),
    "siglip": Program("bench_larger.py --models siglip", 300),
    "convnext": Program("bench_larger.py --models convnext", 400),
    "race": Program("bench_cuda.py --parts race", 420),
    "float8": Program("bench_cuda.py --parts float8", 420),
}


@dataclass
class Running:
    """A program at work."""

    name: str
    cards: tuple[str, ...]
    process: subprocess.Popen[bytes]
    began: float
    until: float


class Board:
    """Cards, and which programs have them.

    Args:
        cards: as CUDA_VISIBLE_DEVICES has them.
        out: for what the programs write.
        say: prints a line.
    """

    def __init__(self, cards: Sequence[str], out: Path, say: Callable[[str], None]) -> None:
        self._cards, self._free, self._out, self._say = tuple(cards), list(cards), out, say
        self._running: dict[Future[int], Running] = {}
        self.ended: dict[str, str] = {}
        """Program → `done`, `failed`, `stopped` or `not started`."""

    def run(self, programs: Mapping[str, Program], deadline: float, *, cut: bool = False) -> None:
        """Run all until `deadline` (of `time.monotonic`); with `cut`, also those whose limit is after it."""
        waiting = dict(programs)
        with ThreadPoolExecutor(len(self._free)) as pool:
            try:
                while True:
                    self._start(waiting, deadline, cut, pool)
                    if not self._running:
                        break
                    first = min(running.until for running in self._running.values())
                    done, _ = wait(self._running, max(0.0, first - time.monotonic()), FIRST_COMPLETED)
                    for future in done:
                        self._end(future, "failed" if future.result() else "done")
                    for future in self._late():
                        self._stop(future)
            finally:
                for future in tuple(self._running):
                    self._stop(future)
        self.ended |= dict.fromkeys(waiting, "not started")

    def _start(self, waiting: dict[str, Program], deadline: float, cut: bool, pool: ThreadPoolExecutor) -> None:
        for name, program in tuple(waiting.items()):
            now = time.monotonic()
            if len(self._free) < program.cards or now >= deadline or (not cut and now + program.seconds > deadline):
                continue
            del waiting[name]
            cards = tuple(self._free[: program.cards])
            del self._free[: program.cards]
            script, *options = program.command.split()
            command = [sys.executable, str(HERE / script), *options, "--json", str(self._out / f"{name}.json")]
            with (self._out / f"{name}.log").open("wb") as log:
                process = subprocess.Popen(
                    command, env={**os.environ, VISIBLE: ",".join(cards)}, start_new_session=True,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                )  # fmt: skip
            until = min(deadline, now + program.seconds)
            self._running[pool.submit(process.wait)] = Running(name, cards, process, now, until)
            self._say(f"{name} on {','.join(cards)}")

    def _late(self) -> list[Future[int]]:
        """What is over its limit."""
        now = time.monotonic()
        return [future for future, running in self._running.items() if now >= running.until]

    def _stop(self, future: Future[int]) -> None:
        """As by Ctrl+C, and by force if it does not heed that."""
        running = self._running[future]
        running.process.send_signal(signal.SIGINT)
        wait([future], END_SECONDS)
        self._end(future, "stopped")

    def _end(self, future: Future[int], how: str) -> None:
        running = self._running.pop(future)
        with suppress(ProcessLookupError):  # what it has left behind would go on using its cards
            os.killpg(running.process.pid, signal.SIGKILL)
        running.process.wait()
        self._free = [card for card in self._cards if card in {*self._free, *running.cards}]
        self.ended[running.name] = how
        self._say(f"{running.name}: {how} after {time.monotonic() - running.began:.0f} s")


def main() -> int:
    """Run them, and print what they printed last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="for all of it (30)")
    parser.add_argument("--cards", type=lambda text: text.split(","), help="as CUDA_VISIBLE_DEVICES has them; all")
    parser.add_argument("--only", type=lambda text: text.split(","), help=f"of {', '.join(PROGRAMS)}, in this order")
    parser.add_argument("--out", type=Path, default=Path("bench-results/gpu"), help="for the rows and the output")
    options = parser.parse_args()
    began = time.monotonic()
    unknown = [name for name in options.only or () if name not in PROGRAMS]
    if unknown or options.minutes <= 0:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(PROGRAMS)}" if unknown else "--minutes is > 0")
    cards = options.cards or cards_here()
    if not cards:
        parser.error("there is no CUDA device here; `make bench` measures what a CPU is asked for")
    short = [name for name in options.only or () if PROGRAMS[name].cards > len(cards)]
    if short:
        parser.error(
            f"{short[0]} needs {PROGRAMS[short[0]].cards} cards, there is {len(cards)}; leave it out of --only"
        )
    options.out.mkdir(parents=True, exist_ok=True)
    programs = {name: PROGRAMS[name] for name in options.only or PROGRAMS if PROGRAMS[name].cards <= len(cards)}

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {line}", flush=True)

    board = Board(cards, options.out, say)
    board.run(programs, began + options.minutes * 60, cut=options.only is not None)
    for name in programs:
        log = options.out / f"{name}.log"
        table = (
            [line for line in log.read_text("utf-8", "replace").splitlines() if line.startswith("|")]
            if log.exists()
            else []
        )
        print("\n".join([f"\n{name}: {board.ended[name]}", *table]))
    ended = set(board.ended.values())
    return 1 if "failed" in ended else 3 if ended & {"stopped", "not started"} else 0


if __name__ == "__main__":
    sys.exit(main())
