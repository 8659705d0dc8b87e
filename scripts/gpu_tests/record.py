"""The file of what began and ended, and what it says of each test."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

Line = dict[str, Any]
GOOD: Final = ("passed", "skipped")
UNKNOWN: Final = ("not reached", "cut off")
"""Verdicts of tests of which nothing is known: the time was up before they began, or before they ended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """How a test ended."""

    test: str
    verdict: str
    """`passed`, `failed`, `skipped`, `died` (its process did, in the middle of it), `cut off` or `not reached`."""
    seconds: float | None = None
    """From its begin to its end."""
    message: str = ""

    @property
    def file(self) -> str:
        """The file it stands in."""
        return self.test.partition("::")[0]

    @property
    def reason(self) -> str:
        """The message without the source that a traceback quotes: what was raised, and where."""
        lines = self.message.strip().splitlines()
        raised = [line for line in lines if line.startswith("E ")]
        return "\n".join([*raised, lines[-1]]) if raised else self.message

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        own = asdict(self) | {"message": self.reason}
        return {key: value for key, value in own.items() if value not in (None, "")}


def append(record: Path | str, event: str, test: str, **more: Any) -> None:
    """Append a line, whole: several processes share the file, and one that dies leaves what it had said."""
    line = {"time": round(time.time(), 3), "process": os.getpid(), "event": event, "test": test, **more}
    file = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, json.dumps(line).encode() + b"\n")
    finally:
        os.close(file)


def read(record: Path) -> list[Line]:
    """The lines that are there; a last one that was cut off is left out."""
    if not record.exists():
        return []
    return [json.loads(line) for line in record.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]


def verdicts(lines: Sequence[Line]) -> list[Verdict]:
    """What the lines of a record say of every test that was found, in the order in which they were."""
    begun: dict[str, float] = {}
    found: dict[str, Verdict] = {}
    for line in lines:
        test = line["test"]
        if line["event"] == "found":
            found.setdefault(test, Verdict(test=test, verdict="not reached"))
        elif line["event"] == "broken":
            found.setdefault(test, Verdict(test=test, verdict=line["verdict"], message=line["message"]))
        elif line["event"] == "begun":
            begun[test] = line["time"]
            found[test] = Verdict(test=test, verdict="cut off")
        elif line["event"] in ("died", "skipped"):
            found[test] = Verdict(test=test, verdict=line["event"], message=line["message"])
        elif line["event"] == "ended":
            seconds = round(line["time"] - begun[test], 2)
            found[test] = Verdict(test=test, verdict=line["verdict"], seconds=seconds, message=line["message"])
    return list(found.values())


def exit_status(found: Sequence[Verdict]) -> int:
    """0 if every test has passed or said why it does not run here; 1 if one failed, 3 if one has no verdict."""
    if any(one.verdict not in (*GOOD, *UNKNOWN) for one in found):
        return 1
    return 3 if any(one.verdict in UNKNOWN for one in found) else 0


def seconds_of(path: Path) -> Mapping[str, float]:
    """Test → seconds, of the verdicts that an earlier run has left; none if there are none."""
    if not path.exists():
        return {}
    tests: list[Line] = json.loads(path.read_text("utf-8"))["tests"]
    return {line["test"]: line["seconds"] for line in tests if "seconds" in line}
