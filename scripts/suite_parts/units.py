"""Units of work, (task, seed, arm), each with a JSON file that is there when the unit is done, and not before."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

Content = dict[str, Any]
HELD_SECONDS = 5.0
"""How long to wait for a process that was told to stop and still has a unit."""


class Unit(NamedTuple):
    """One arm on one task with one seed."""

    task: str
    seed: int
    arm: str

    @property
    def name(self) -> str:
        """For files and lines."""
        return f"{self.task}-{self.seed}-{self.arm}"


@dataclass(frozen=True)
class UnitStore:
    """The finished units under a folder."""

    folder: Path
    keys: Mapping[str, str]
    """Task → digest of what its units depend on: units of other settings are not taken for these."""

    def path(self, unit: Unit) -> Path:
        """The file of a unit."""
        return self.folder / f"{unit.name}.json"

    def read(self, unit: Unit) -> Content | None:
        """What a unit found; None if it is not done.

        Raises:
            ValueError: if it was done with other settings.
        """
        path = self.path(unit)
        if not path.exists():
            return None
        try:
            content: Content = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is no JSON: {error}; delete it, and the unit is done again") from error
        if content["key"] != self.keys[unit.task]:
            raise ValueError(
                f"{path} was made with other settings, tasks or another backbone; give another --out, or delete it"
            )
        return content

    @contextmanager
    def held(self, unit: Unit, seconds: float = HELD_SECONDS) -> Iterator[bool]:
        """Keep other processes with this folder from doing a unit at the same time; yields whether none is.

        The system releases it when the process ends, however that is; waits so long for one that is about to.
        """
        path = self.folder.parent / "locks" / unit.name
        path.parent.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + seconds
        with path.open("wb") as file:
            while not (free := _locked(file)) and time.monotonic() < until:
                time.sleep(0.2)
            yield free

    def write(self, unit: Unit, content: Content) -> None:
        """Keep what a unit found."""
        whole = {"task": unit.task, "seed": unit.seed, "arm": unit.arm, "key": self.keys[unit.task]} | content
        write_atomically(self.path(unit), json.dumps(whole) + "\n")

    def take_over(self, given: Sequence[Content]) -> int:
        """Add those of the same settings that are not here yet; returns how many are of the same settings."""
        same = [content for content in given if content["key"] == self.keys.get(content["task"])]
        for content in same:
            path = self.path(Unit(content["task"], content["seed"], content["arm"]))
            if not path.exists():
                write_atomically(path, json.dumps(content) + "\n")
        return len(same)

    def done(self, units: Sequence[Unit]) -> Iterator[tuple[Unit, Content]]:
        """The finished ones of these units."""
        for unit in units:
            content = self.read(unit)
            if content is not None:
                yield unit, content


def _locked(file: BinaryIO) -> bool:
    """Lock an open file, unless another process has."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def packed(found: Mapping[Unit, Content]) -> str:
    """Finished units as one JSON text, without the details of their stages."""
    short = [{key: value for key, value in content.items() if key != "stages"} for content in found.values()]
    return json.dumps(short, indent=0) + "\n"


def read_packed(path: Path) -> list[Content]:
    """The units of a file that `packed` made.

    Raises:
        ValueError: if it is another kind of file.
    """
    try:
        given = json.loads(path.read_text("utf-8"))
        if not all({"task", "seed", "arm", "key"} <= content.keys() for content in given):
            raise ValueError("a unit has no task, seed, arm or key")
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{path}: expected finished units, as docs/suite-units.json has them: {error}") from error
    return list(given)


def write_atomically(path: Path, text: str) -> None:
    """Write a file that is either the old or the new one at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, "utf-8")
    partial.replace(path)
