"""What a worker process does with a unit."""

from __future__ import annotations

import datetime
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from glorasearch.errors import RunLockedError
from suite_parts.arms import ARMS, Kind
from suite_parts.settings import Settings
from suite_parts.tasks import Tasks
from suite_parts.units import Content, Unit, UnitStore
from suite_parts.work import Perform, Place, Say, UnderWayError

ROOT = Path(__file__).resolve().parents[2]


def make(settings: Settings, out: Path, tasks: Path | None, place: Place) -> Perform:
    """The function that does a unit in this process; imports torch."""
    from suite_parts.alone import alone
    from suite_parts.augmentation import augmentation
    from suite_parts.cost import cost
    from suite_parts.lab import Folders, Lab
    from suite_parts.product import product
    from suite_parts.tau import tau
    from suite_parts.tau_ideas import tau_ideas
    from suite_parts.yardstick import yardstick

    folders = Folders(out)
    lab = Lab(settings, folders, Tasks(tasks, out), place.threads)
    store = UnitStore(folders.units, settings.keys)
    kinds: Mapping[Kind, Callable[[Lab, Unit], Content]] = {
        "product": product,
        "yardstick": yardstick,
        "tau": tau,
        "ideas": tau_ideas,
        "augmentation": augmentation,
        "alone": alone,
        "cost": cost,
    }

    def do(unit: Unit, say: Say) -> None:
        with store.held(unit) as free:
            if not free:
                raise UnderWayError
            if store.read(unit) is not None:
                return  # another process has done it meanwhile
            try:
                with lab.timed(unit) as facts, lab.telling(say):
                    found = kinds[ARMS[unit.arm].kind](lab, unit)
            except RunLockedError as error:  # tau needs the run of evolution
                raise UnderWayError from error
            finally:
                lab.free()
            store.write(unit, facts | found | {"sharing": place.sharing, "date": today(), "revision": revision()})
            lab.forget(unit)

    return do


def today() -> str:
    """UTC."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def revision() -> str:
    """The commit of the code, if this is a checkout."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
