"""What worker processes of the suite do in tests: units whose names say how they end."""

from __future__ import annotations

import os
import time
from pathlib import Path

from suite_parts.units import Unit
from suite_parts.work import Perform, Place, Say, UnderWayError

from glorasearch.errors import InputError


def make(folder: Path, place: Place) -> Perform:
    """A function that writes a file for each unit, with the process that did it; or fails, dies or never ends."""

    def do(unit: Unit, say: Say) -> None:
        if unit.arm == "elsewhere" or (unit.arm == "waits" and not (folder / "task-1-a").exists()):
            raise UnderWayError
        if unit.arm == "tells":
            say("half of it")
            while not (folder / "heard").exists():
                time.sleep(0.01)
        if unit.arm == "unfit":
            raise InputError(f"{unit.name}: expected something else")
        if unit.arm == "fails":
            raise ValueError(f"{unit.name} went wrong")
        if unit.arm == "dies":
            os._exit(7)
        if unit.arm == "forever":
            try:
                (folder / "waiting").touch()
                while True:
                    time.sleep(0.01)
            finally:
                (folder / "cleaned").touch()
        (folder / unit.name).write_text(f"{os.getpid()} {place.number} {os.environ.get('CUDA_VISIBLE_DEVICES')}")

    return do
