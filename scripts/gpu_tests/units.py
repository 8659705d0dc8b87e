"""What is run by one process: tests of a file that need the same number of cards, so many that it ends in a while."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gpu_tests.record import Line
from gpu_tests.recorder import RECORD

SCRIPTS: Final = Path(__file__).resolve().parents[1]
CORES: Final = 2
"""Of the machine, for each process: most of its time it waits for Python, which takes one."""
MARKS: Final = ("mark.gpu", "support.devices")
"""What a file has in it whose tests are marked, or take a device as a parameter."""
UNKNOWN_SECONDS: Final = (10.0, 60.0)
"""What a test of one card, and of several, is thought to take of which no earlier run tells."""
LONGEST_SECONDS: Final = 100.0
"""Of a unit with several tests: a file that takes longer is run by several processes, side by side."""
SHARE: Final = 0.8
"""Of the time of all places that tests may need by what is known of them, if all are to end in time."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Tests that one process runs."""

    file: str
    cards: int
    """How many it needs."""
    tests: tuple[str, ...]
    """Their names, as pytest's command line takes them."""

    def without(self, done: Iterable[str]) -> Unit:
        """The same without these tests."""
        gone = set(done)
        return Unit(self.file, self.cards, tuple(test for test in self.tests if test not in gone))

    def __str__(self) -> str:
        return self.file + (f" ({self.cards} cards)" if self.cards > 1 else "")


def find(root: Path, record: Path, only: Sequence[str] = (), python: str = sys.executable) -> None:
    """Have pytest write into the record what is marked `gpu`, in the files given, or in all that have one of `MARKS`.

    Raises:
        RuntimeError: if pytest itself fails.
    """
    names = list(only) or [
        str(path.relative_to(root))
        for path in sorted((root / "tests").rglob("test_*.py"))
        if any(mark in path.read_text("utf-8") for mark in MARKS)
    ]
    if not names:
        return
    done = subprocess.run(
        [*pytest_command(python), "--collect-only", *names],
        cwd=root, env=environment(record), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode not in (0, 2, 5):  # 2: a file cannot be imported, of which the record tells; 5: no test
        raise RuntimeError(f"pytest cannot collect the tests (exit {done.returncode}):\n{done.stdout}{done.stderr}")


def pytest_command(python: str) -> list[str]:
    """pytest on what is marked `gpu`, with the recorder.

    Without `faulthandler_timeout`: where torch compiles, Python 3.12 dies of the attempt to print the stack.
    """
    return [python, "-m", "pytest", "-m", "gpu", "-p", "gpu_tests.recorder", "-p", "no:cacheprovider", "-rfE"]


def environment(record: Path) -> dict[str, str]:
    """In which pytest finds the recorder, and the recorder its file.

    Unless the environment says otherwise, processes compute and compile with `CORES` threads: torch starts a process
    for each core of the machine to compile with, which import torch, in every process that compiles anything.
    """
    path = os.pathsep.join(filter(None, [str(SCRIPTS), os.environ.get("PYTHONPATH")]))
    few = dict.fromkeys(("OMP_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS"), str(CORES))
    return few | os.environ | {"PYTHONPATH": path, RECORD: str(record), "PYTHONUNBUFFERED": "1"}


def units_of(lines: Sequence[Line], seconds: Mapping[str, float], room: float = 0.0) -> list[Unit]:
    """The units of the tests that were found, in the order in which they start. A file that takes long is several.

    If all fit into the time, those of several cards come first, which need a place on each, and then the longest. If
    they do not, those of one card come first, and then the shortest: a run that is cut off has then given as many
    verdicts as it could.

    Args:
        lines: of the record.
        seconds: test → what it took in an earlier run.
        room: seconds of all places together.
    """
    tests: dict[tuple[str, int], list[str]] = defaultdict(list)
    for line in lines:
        if line["event"] == "found":
            tests[line["file"], line["cards"]].append(line["test"])
    units = [
        Unit(file, cards, part) for (file, cards), names in tests.items() for part in _parts(names, cards, seconds)
    ]
    took = {unit: _seconds(unit.tests, unit.cards, seconds) for unit in units}
    sign = -1 if sum(unit.cards * took[unit] for unit in units) <= SHARE * room else 1
    return sorted(units, key=lambda unit: (sign * unit.cards, sign * took[unit], unit.file))


def _parts(tests: Sequence[str], cards: int, seconds: Mapping[str, float]) -> list[tuple[str, ...]]:
    """The tests of a file in their order, cut where the next one would make a part longer than `LONGEST_SECONDS`."""
    parts: list[tuple[str, ...]] = []
    for test in tests:
        if parts and _seconds((*parts[-1], test), cards, seconds) <= LONGEST_SECONDS:
            parts[-1] += (test,)
        else:
            parts.append((test,))
    return parts


def _seconds(tests: Iterable[str], cards: int, seconds: Mapping[str, float]) -> float:
    return sum(seconds.get(test, UNKNOWN_SECONDS[cards > 1]) for test in tests)
