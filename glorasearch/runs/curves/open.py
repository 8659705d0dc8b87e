"""The curves of a run, opened where its run file says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from glorasearch.interrupts import is_interrupt
from glorasearch.runs.curves.csv_files import CsvFiles, stored_times
from glorasearch.runs.curves.curves import Curves, Writer
from glorasearch.runs.curves.hyperparameters import hyperparameters
from glorasearch.runs.curves.rows import Row
from glorasearch.runs.curves.stored import stored_rows
from glorasearch.runs.curves.summary_file import SummaryFile
from glorasearch.runs.stored_run import StoredRun


@contextmanager
def opened_curves(stored: StoredRun, more: Iterable[Writer] = ()) -> Iterator[Curves]:
    """The curves of a run that is about to work, with what the database has of it; closed at the end.

    Args:
        stored: the run.
        more: places besides those of its run file.
    """
    folder = stored.files.curves
    rows = list(database_rows(stored))
    times = stored_times(folder, {row.stage for row in rows})
    timed = (Row(row.stage, row.step, row.values, times.get((row.stage, row.step), row.time)) for row in rows)
    curves = Curves([*_writers(stored, folder), *more], timed)
    state: Final = {"state": "finished"}
    try:
        yield curves
    except BaseException as error:
        state["state"] = "stopped" if is_interrupt(error) else "failed"
        raise
    finally:
        curves.close(state["state"])


def database_rows(stored: StoredRun) -> Iterable[Row]:
    """What the database has of the curves of a run."""
    known = stored.find()
    return () if known is None else stored_rows(stored.runs, stored.name, known.stages, stored.configuration)


def _writers(stored: StoredRun, folder: Path) -> Iterator[Writer]:
    log, settings = stored.config.log, hyperparameters(stored.config.model_dump(mode="json"))
    if "csv" in log.to:
        yield CsvFiles(folder)
        yield SummaryFile(folder)
    if "tensorboard" in log.to:
        from glorasearch.runs.curves.event_file import EventFile

        yield EventFile(folder, settings)
    if "mlflow" in log.to:
        from glorasearch.runs.curves.mlflow_tracker import MlflowTracker, tracking_uri

        uri = tracking_uri(log.mlflow_uri, stored.workspace.path)
        yield MlflowTracker(uri, log.project, stored.name, folder / "mlflow.json", settings)
    if "wandb" in log.to:
        from glorasearch.runs.curves.wandb_tracker import WandbTracker

        known = stored.find()
        created = "" if known is None else known.created.isoformat()
        offline = log.wandb_mode == "offline"
        yield WandbTracker(folder, log.project, stored.name, created, settings, offline=offline)
