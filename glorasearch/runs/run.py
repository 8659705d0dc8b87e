"""A run from Python: from a config to a merged model and a report. Making a `Run` needs no torch."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from glorasearch.errors import InputError
from glorasearch.runs.config import RunConfig
from glorasearch.runs.progress import Progress, Silent
from glorasearch.runs.resources import ResourceConfig
from glorasearch.runs.results import FormatResult, Report, Results
from glorasearch.runs.stage_result import StageResult
from glorasearch.runs.stored_run import StoredRun
from glorasearch.runs.workspace import DEFAULT_WORKSPACE, Workspace

if TYPE_CHECKING:
    import pandas as pd

    from glorasearch.db import Metric
    from glorasearch.runs.forecast import Forecast
    from glorasearch.runs.session import Session
    from glorasearch.search import TrialRecord


class Run:
    """All stages of one run: pilot, train, search, race, refit, baselines, test, export, report.

    A finished stage is not repeated, and an interrupted one resumes.
    """

    def __init__(
        self,
        config: RunConfig | Mapping[str, Any] | str | Path,
        workspace: Workspace | str | Path = DEFAULT_WORKSPACE,
        *,
        resources: ResourceConfig | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Set up the run; no work is done yet.

        Args:
            config: what to do; its fields as a dictionary; or the path of a run file.
            workspace: where to keep it, or the path of the folder.
            resources: where to compute; in this process if not given.
            progress: shows how far it is, such as `ProgressBars()`; nothing is shown if not given.

        Raises:
            InputError: if the run file, the workspace or its database cannot be used.
        """
        self.config = _run_config(config)
        self.workspace = workspace if isinstance(workspace, Workspace) else Workspace.open(workspace)
        self.resources = resources or ResourceConfig()
        self.progress: Progress = progress or Silent()
        self._stored = StoredRun(self.config, self.workspace)

    @property
    def name(self) -> str:
        """The run's name in its workspace."""
        return self.config.name

    @property
    def results(self) -> Results:
        """The results of the finished stages."""
        return self._stored.results

    @property
    def report(self) -> Report | None:
        """The final report; None until all stages have finished."""
        return self.results.report

    @property
    def trials(self) -> list[TrialRecord]:
        """The trials of the search that have a score, by number; none before the search."""
        from glorasearch.db import TrialStorage  # Optuna takes a second to import
        from glorasearch.search.trials import scored_trials

        storage = TrialStorage(self.workspace.database)
        try:
            return scored_trials(storage.outlines(storage.get_study_id_from_name(self.name)))
        except KeyError:
            return []

    def frame(self) -> pd.DataFrame:
        """The trials as a pandas frame, a row each, with the fields of `TrialRecord` and of its `Score`.

        Raises:
            InputError: if pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise InputError("Run.frame needs pandas: pip install 'glorasearch[pandas]'") from error
        from glorasearch.search import TrialRecord

        rows = [record.to_row() for record in self.trials]
        return pd.DataFrame(rows, columns=TrialRecord.COLUMNS).set_index("number")

    @property
    def metrics(self) -> list[Metric]:
        """The numbers that its trainings recorded (loss, rates, probes), by stage, step and name."""
        return self.workspace.runs.metrics(self.name) if self.workspace.runs.get(self.name) else []

    @overload
    def execute(self, only: None = None, *, fresh: bool = False) -> Report: ...

    @overload
    def execute(self, only: str, *, fresh: bool = False) -> StageResult: ...

    def execute(self, only: str | None = None, *, fresh: bool = False) -> StageResult:
        """Run all stages, or one; returns the result of the last one.

        A finished run is answered, and an impossible one refused, from the database alone where possible, before torch
        is imported. Everything else that can be checked is checked before the first stage starts. The process holds
        the run's lock meanwhile.

        Args:
            only: `train`, `search`, `refit` or `export`; the stages before it must have finished.
            fresh: forget, once everything has been checked, what a run of this name has done.

        Raises:
            InputError: if the run cannot work as it is described.
            RunLockedError: if another live process works on this run.
            RunError: if a stage fails; what finished before it is kept.
        """
        if fresh:
            self._stored.start_over()
        else:
            result = self._stored.finished(only)
            if result is not None:
                return result
        self._stored.check_free(fresh=fresh)
        self.progress.say(f"run {self.name!r} in {self.workspace.path}: loading torch and timm")
        with _no_garbage_collection():
            from glorasearch.runs.pipeline import run_stages

        return run_stages(self.session(fresh=fresh), only)

    def export_formats(self, formats: Sequence[str], *, lossy_rank: int | None = None) -> list[FormatResult]:
        """Write the refitted winner in other formats than timm's, each in a folder beside the export.

        Args:
            formats: such as `adapter`, `onnx`.
            lossy_rank: with `peft`, the rank that approximates what has no low-rank form; None refuses it.

        Raises:
            InputError: if the winner has no such form, or something else is where it is to go.
            RunLockedError: if another live process works on this run.
            ExportError: if what was written does not compute what the winner does.
        """
        from glorasearch.export.formats import Options
        from glorasearch.runs.formats import export_formats

        return export_formats(self.session(), formats, Options(lossy_rank=lossy_rank))

    def forecast(self, only: str | None = None, *, fresh: bool = False) -> Forecast:
        """How long `execute` would take, measured on a few steps, and what it would write; nothing is started.

        Raises:
            InputError: if the run cannot work as it is described.
            RunLockedError: if another live process works on this run.
        """
        if fresh:
            self._stored.start_over()
        self._stored.check_free(fresh=fresh)
        self.progress.say(f"run {self.name!r} in {self.workspace.path}: loading torch and timm")
        with _no_garbage_collection():
            from glorasearch.runs.pipeline import look_ahead

        return look_ahead(self.session(fresh=fresh), only)

    def session(self, *, fresh: bool = False) -> Session:
        """What the stages share: data, backbone, supernets, weights. Imports torch."""
        from glorasearch.runs.session import Session

        return Session(self._stored, self.resources, self.progress, fresh=fresh)


def _run_config(config: RunConfig | Mapping[str, Any] | str | Path) -> RunConfig:
    if isinstance(config, RunConfig):
        return config
    return RunConfig.from_dict(config) if isinstance(config, Mapping) else RunConfig.load(Path(config))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """For the import of torch and timm: their objects stay, and searching them for garbage takes half a second."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
