"""Units of work, (task, seed, arm), each with a JSON file that is there when the unit is done, and not before."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

Content = dict[str, Any]


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
        content: Content = json.loads(path.read_text("utf-8"))
        if content["key"] != self.keys[unit.task]:
            raise ValueError(
                f"{path} was made with other settings, tasks or another backbone; give another --out, or delete it"
            )
        return content

    def write(self, unit: Unit, content: Content) -> None:
        """Keep what a unit found."""
        whole = {"task": unit.task, "seed": unit.seed, "arm": unit.arm, "key": self.keys[unit.task]} | content
        write_atomically(self.path(unit), json.dumps(whole) + "\n")

    def take_over(self, path: Path) -> None:
        """Add the units of a file that `packed` made, those of the same settings that are not here yet."""
        for content in json.loads(path.read_text("utf-8")):
            unit = Unit(content["task"], content["seed"], content["arm"])
            if content["key"] == self.keys.get(unit.task) and not self.path(unit).exists():
                write_atomically(self.path(unit), json.dumps(content) + "\n")

    def done(self, units: Sequence[Unit]) -> Iterator[tuple[Unit, Content]]:
        """The finished ones of these units."""
        for unit in units:
            content = self.read(unit)
            if content is not None:
                yield unit, content


def packed(found: Mapping[Unit, Content]) -> str:
    """Finished units as one JSON text, without the details of their stages."""
    short = [{key: value for key, value in content.items() if key != "stages"} for content in found.values()]
    return json.dumps(short, indent=0) + "\n"


def write_atomically(path: Path, text: str) -> None:
    """Write a file that is either the old or the new one at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, "utf-8")
    partial.replace(path)
