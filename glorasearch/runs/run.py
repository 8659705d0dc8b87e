"""A run from Python: from a config to a merged model and a report. Making a `Run` needs no torch."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, overload

from glorasearch.runs.config import RunConfig
from glorasearch.runs.progress import Progress, Silent
from glorasearch.runs.resources import ResourceConfig
from glorasearch.runs.results import Report, Results
from glorasearch.runs.stage_result import StageResult
from glorasearch.runs.stored_run import StoredRun
from glorasearch.runs.workspace import Workspace

if TYPE_CHECKING:
    from glorasearch.runs.session import Session


class Run:
    """All stages of one run: train, search, refit, baselines, test, export, report.

    A finished stage is not done again, and one that was cut off goes on where it was.
    """

    def __init__(
        self,
        config: RunConfig,
        workspace: Workspace,
        *,
        resources: ResourceConfig | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Take the parts of a run together; no work is done yet.

        Args:
            config: what the run is asked to do.
            workspace: where it is kept.
            resources: where its work is done; in this process if not given.
            progress: what shows how far it is; nothing if not given.
        """
        self.config, self.workspace = config, workspace
        self.resources = resources or ResourceConfig()
        self.progress: Progress = progress or Silent()
        self._stored = StoredRun(config, workspace)

    @property
    def name(self) -> str:
        """Of the run in its workspace."""
        return self.config.name

    @property
    def results(self) -> Results:
        """What the finished stages found, by stage."""
        return self._stored.results

    @property
    def report(self) -> Report | None:
        """Everything that the run found; None until all its stages have finished."""
        return self.results.report

    @overload
    def execute(self, only: None = None, *, fresh: bool = False) -> Report: ...

    @overload
    def execute(self, only: str, *, fresh: bool = False) -> StageResult: ...

    def execute(self, only: str | None = None, *, fresh: bool = False) -> StageResult:
        """Run all stages, or one; returns the result of the last one.

        What the database alone can answer or refuse is so before torch is imported, and everything that can be checked
        is checked before the first stage starts. The process owns the run meanwhile.

        Args:
            only: `train`, `search`, `refit` or `export`; the stages before it must have finished.
            fresh: forget, once everything has been checked, what a run of this name has done.

        Raises:
            InputError: if the run cannot work as it is described.
            RunLockedError: if another live process works on this run.
            RunError: if a stage fails; what finished before it is kept.
        """
        if not fresh:
            result = self._stored.finished(only)
            if result is not None:
                return result
        self._stored.check_free(fresh=fresh)
        with _no_garbage_collection():
            from glorasearch.runs.pipeline import run_stages

        return run_stages(self.session(fresh=fresh), only)

    def session(self, *, fresh: bool = False) -> Session:
        """What the stages share: data, backbone, supernets, weights. Imports torch."""
        from glorasearch.runs.session import Session

        return Session(self._stored, self.resources, self.progress, fresh=fresh)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """While torch and timm are imported: what they make stays, and looking for garbage among it takes half a second."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
