"""From options of the command line to a job."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console

from glorasearch.cli.bars import Bars
from glorasearch.db import Database, RunStore, TrialStorage
from glorasearch.jobs import Job, Progress, RunFile, Silent, Workspace, run_stages


def execute(
    run_file: RunFile,
    *,
    workspace: str,
    database: str | None,
    fresh: bool,
    quiet: bool,
    executor: str = "local",
    workers: int = 1,
    only: str | None = None,
) -> Mapping[str, Any]:
    """Run all stages, or one, and return the last one's result; progress goes to standard error."""
    place = Workspace.open(workspace, database)
    stored = Database(place.database_url)
    if fresh:
        _forget(run_file.name, place, stored)
    progress: Progress = Silent() if quiet else Bars(Console(stderr=True))
    return run_stages(Job(run_file, place, stored, progress=progress, executor=executor, workers=workers), only)


def echo_json(content: Any) -> None:
    """Print JSON."""
    click.echo(json.dumps(content, indent=2))


def _forget(name: str, place: Workspace, database: Database) -> None:
    """Remove what a run of this name left behind, unless a live process owns it."""
    runs = RunStore(database)
    if runs.get(name) is None:
        return
    with runs.lock(name):
        storage = TrialStorage(database)
        for study in storage.get_all_studies():
            if study.study_name == name:
                storage.delete_study(study._study_id)
        shutil.rmtree(place.run_folder(name), ignore_errors=True)
    runs.delete(name)
