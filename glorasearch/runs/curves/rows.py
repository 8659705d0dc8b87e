"""A point of a run's curves: what was measured, at which step of which stage."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

RUNGS: Final = "rungs"
"""The stage of the candidates' scores; the race's own steps are trainings."""
SEARCH: Final = "search"
TEST: Final = "test"


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured at one step of a stage."""

    stage: str
    """As in the database: `train`, `refit`, `baseline:lora`, `rate:0.003`, ...; or one of those above."""
    step: int
    """Optimiser steps of a training, finished trials of a search, trainings of a race, the rung; 0 of a test."""
    values: Mapping[str, float]
    time: float = field(default_factory=time.time)
    """Seconds since 1970."""


def opening(folder: Path) -> str:
    """How to look at the curves of a folder."""
    if any(folder.glob("*tfevents*")):
        return f"tensorboard --logdir {shlex.quote(str(folder))}"
    return str(folder)


def tag(stage: str, name: str) -> str:
    """The name of a curve: `train/loss`, `baseline/lora/loss`."""
    return f"{stage.replace(':', '/')}/{name}"
