"""From options of the command line to a run."""

from __future__ import annotations

import gc
import json
import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

import click

from glorasearch.db import Database, RunRecord, RunStore
from glorasearch.errors import RunNotFoundError
from glorasearch.runs.config import RunConfig
from glorasearch.runs.records import finished_result, recognise
from glorasearch.runs.resources import ResourceConfig, resources_of
from glorasearch.runs.workspace import Workspace


def execute(
    run_file: RunConfig,
    *,
    workspace: str,
    database: str | None,
    fresh: bool,
    quiet: bool,
    store: str | None = None,
    only: str | None = None,
    **options: Any,
) -> Mapping[str, Any]:
    """Run all stages, or one, and return the last one's result; progress goes to standard error.

    What can be answered or refused from the database alone is so before torch is imported. `options` are those of
    `ResourceConfig`.
    """
    resources = resources_of(options)
    place = Workspace.open(workspace, database, store)
    stored = Database(place.database_url)
    runs = RunStore(stored)
    if not fresh:
        result = finished_result(runs, run_file, place, only)
        if result is not None:
            return result
    known = runs.get(run_file.name) if fresh else recognise(runs, run_file)
    if known is not None:
        with runs.lock(known.name):
            pass  # refused here if another process is at it; the lock is taken for good once everything is checked
    return _work(run_file, place, stored, only, fresh, quiet, resources)


def _work(
    run_file: RunConfig,
    place: Workspace,
    stored: Database,
    only: str | None,
    fresh: bool,
    quiet: bool,
    resources: ResourceConfig,
) -> Mapping[str, Any]:
    gc.disable()  # importing torch and timm makes objects that stay: looking for garbage among them takes half a second
    from rich.console import Console

    from glorasearch.cli.bars import Bars
    from glorasearch.runs import Progress, Run, Silent, run_stages

    gc.enable()
    progress: Progress = Silent() if quiet else Bars(Console(stderr=True))
    run = Run(run_file, place, stored, progress=progress, resources=resources)
    with redirect_stdout(sys.stderr):  # the result alone goes there, whatever libraries print (Ray: deaths of workers)
        return run_stages(run, only, fresh=fresh)


def listed_runs(workspace: str, database: str | None) -> tuple[Workspace, RunStore | None]:
    """The runs of a workspace for who only looks at them; None (and nothing is made) if there is no database yet."""
    place = Workspace.open(workspace, database, create=False)
    return place, RunStore(place.database_url) if place.has_database else None


def required_runs(workspace: str, database: str | None, names: Sequence[str]) -> tuple[RunStore, list[RunRecord]]:
    """The runs of these names, each once and in this order.

    Raises:
        RunNotFoundError: naming those that the workspace does not know, and those that it does.
    """
    place, store = listed_runs(workspace, database)
    known = {} if store is None else {run.name: run for run in store.list()}
    missing = [repr(name) for name in names if name not in known]
    if store is None or missing:
        raise RunNotFoundError(
            f"no run {', '.join(missing) or 'at all'} in {place.path}; known are: {', '.join(known) or 'none'}"
        )
    return store, [known[name] for name in dict.fromkeys(names)]


def echo_json(content: Any) -> None:
    """Print JSON; a number that is not finite, which JSON does not have, is null."""
    click.echo(json.dumps(_finite(content), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value
