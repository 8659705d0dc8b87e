"""One task of a sweep: a whole run, in this process or a worker's."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from glorasearch.choices.plugins import describe, fault_of
from glorasearch.errors import GlorasearchError, RunLockedError
from glorasearch.interrupts import is_interrupt
from glorasearch.runs.config import RunConfig
from glorasearch.runs.progress import Progress
from glorasearch.runs.resources import ResourceConfig
from glorasearch.runs.results import Report
from glorasearch.runs.run import Run
from glorasearch.runs.workspace import Workspace

_log = logging.getLogger(__name__)

LOCK_WAIT_SECONDS: Final = 90.0
"""How long a task waits for the lock of its run, which a killed process may still hold."""


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """All that a process needs to know to run a task; JSON-ready."""

    config: dict[str, Any]
    """Configuration of the run, as JSON."""
    workspace: str
    database: str | None
    """SQLAlchemy URL."""
    store: str
    """Path or URL of the weight store."""
    code_cache: str | None = None
    """Folder of compiled code, or `off`."""
    fresh: bool = False
    share_backbone: bool = False
    """Share the backbone's memory with other tasks on the same machine."""

    def to_json(self) -> dict[str, Any]:
        """As a dictionary of JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class TaskOutcome:
    """The outcome of a task: the report of its run, or the error."""

    report: Report | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As a dictionary of JSON values."""
        return {"report": None if self.report is None else self.report.to_json(), "error": self.error}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TaskOutcome:
        """The inverse of `to_json`."""
        report = content["report"]
        return cls(report=None if report is None else Report.from_json(report), error=content["error"])


def run_task_json(spec: Mapping[str, Any]) -> dict[str, Any]:
    """`run_task` from JSON to JSON, without progress; workers call it by its dotted name."""
    return run_task(TaskSpec(**spec)).to_json()


def run_task(spec: TaskSpec, progress: Progress | None = None) -> TaskOutcome:
    """Run the remaining stages of a task's run; an error becomes the outcome."""
    try:
        return TaskOutcome(report=_run(spec, progress))
    except GlorasearchError as error:
        return TaskOutcome(error=str(error))
    except BaseException as error:
        if is_interrupt(error):
            raise
        _log.exception("task %s failed", spec.config.get("name"))
        return TaskOutcome(error=fault_of(error) or describe(error))
    finally:
        _free_memory()


def _run(spec: TaskSpec, progress: Progress | None) -> Report:
    run = Run(
        RunConfig.from_dict(spec.config),
        Workspace.open(spec.workspace, spec.database, spec.store, code_cache=spec.code_cache),
        resources=ResourceConfig(share_backbone=spec.share_backbone),
        progress=progress,
    )
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    while True:
        try:
            return run.execute(fresh=spec.fresh)
        except RunLockedError as error:
            if spec.fresh or time.monotonic() > deadline:  # to wait and start over would forget what another has done
                raise
            _log.warning("%s; trying again", error)
            time.sleep(1.0)


def _free_memory() -> None:
    """Free what a run holds in reference cycles, before another run in this process."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
