"""One task of a sweep: a whole run in the process that it is given to."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from glorasearch.db import Database
from glorasearch.errors import GlorasearchError, RunLockedError
from glorasearch.runs.config import RunConfig
from glorasearch.runs.progress import Progress, Silent
from glorasearch.runs.workspace import Workspace

_log = logging.getLogger(__name__)

LOCK_PATIENCE_SECONDS: Final = 90.0
"""How long a task waits for its run: a process that has just been killed may hold it a while."""


@dataclass(frozen=True, kw_only=True)
class TaskOrder:
    """All that a process needs to know to perform a task; JSON-ready."""

    run_file: dict[str, Any]
    workspace: str
    database: str
    """SQLAlchemy URL."""
    store: str
    """Path or URL of the weight store."""
    fresh: bool = False
    shared: bool = False
    """Other tasks are performed on the same machine: have the backbone's memory in common with them."""

    def to_json(self) -> dict[str, Any]:
        """As a dictionary of JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class TaskAnswer:
    """What became of a task: the report of its run, or why there is none."""

    report: Mapping[str, Any] | None = None
    error: str | None = None

    @property
    def accuracy(self) -> float:
        """Of the refitted winner, on the test split."""
        if self.report is None:
            raise ValueError(f"a task that failed has no accuracy: {self.error}")
        return float(self.report["winner"]["refit_test_accuracy"])


def perform_in_worker(order: Mapping[str, Any]) -> dict[str, Any]:
    """Perform an order that came as JSON, without progress; for workers, which call it by its dotted name."""
    return asdict(perform(TaskOrder(**order)))


def perform(order: TaskOrder, progress: Progress | None = None) -> TaskAnswer:
    """Run all stages of a task's run, or what is left of them; whatever goes wrong is the answer."""
    try:
        return TaskAnswer(report=_run(order, progress or Silent()))
    except GlorasearchError as error:
        return TaskAnswer(error=str(error))
    except Exception as error:
        _log.exception("task %s failed", order.run_file.get("name"))
        return TaskAnswer(error=f"{type(error).__name__}: {error}")
    finally:
        _leave_nothing()


def _run(order: TaskOrder, progress: Progress) -> Mapping[str, Any]:
    from glorasearch.runs.pipeline import run_stages
    from glorasearch.runs.run import Run

    run_file = RunConfig.from_dict(order.run_file)
    workspace = Workspace.open(order.workspace, order.database, order.store)
    database = Database(order.database)
    deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
    while True:
        run = Run(run_file, workspace, database, progress=progress, share_backbone=order.shared)
        try:
            return run_stages(run, fresh=order.fresh)
        except RunLockedError as error:
            if order.fresh or time.monotonic() > deadline:  # who waits with fresh would forget what another has done
                raise
            _log.warning("%s; trying again", error)
            time.sleep(1.0)


def _leave_nothing() -> None:
    """Free what a run holds in reference cycles: another one may come in this process."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
