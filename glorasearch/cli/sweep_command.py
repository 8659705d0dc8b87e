"""`glorasearch sweep`."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from glorasearch.cli.options import run_file_options

if TYPE_CHECKING:
    from glorasearch.runs.progress import Progress
    from glorasearch.runs.sweep import Performer


@click.command("sweep")
@run_file_options
@click.option(
    "--tasks",
    required=True,
    metavar="NAMES",
    help="Names separated by commas; for VTAB-1k also vtab (all 19), natural, specialized and structured.",
)
@click.option(
    "--executor",
    default="local",
    show_default=True,
    type=click.Choice(["local", "ray"]),
    help="Where the runs are: one after the other in this process, or as Ray tasks.",
)
@click.option("--address", metavar="HOST:PORT", help="Of a Ray cluster.  [default: Ray is started on this machine]")
@click.option(
    "--parallel",
    type=click.IntRange(1),
    metavar="N",
    help="Runs at a time with Ray.  [default: 1 on this machine; on a cluster as many as it has room for]",
)
@click.option("--cpus-per-task", default=1.0, show_default=True, metavar="COUNT", help="CPUs of each Ray task.")
@click.option("--gpus-per-task", default=0.0, show_default=True, metavar="SHARE", help="GPUs of each; may be a share.")
def command(
    config: Path,
    overrides: tuple[str, ...],
    tasks: str,
    workspace: str,
    database: str | None,
    store: str | None,
    fresh: bool,
    quiet: bool,
    as_json: bool,
    executor: str,
    **options: Any,
) -> int:
    """Run the run file CONFIG for each of some tasks, and print one table at the end.

    `{task}` in data.source stands for the name of the task, as in "vtab:/data/vtab-1k/{task}"; the run of a task is
    named <name>-<task>. Accuracies are those of the refitted winners on the test split; for VTAB-1k also the mean of
    each group and the mean of the groups' means.

    A task that fails does not stop the others: it is named at the end, and the exit code is 1. The same command goes on
    where an earlier one was cut off, task by task.

    With Ray each run is a process with --cpus-per-task and --gpus-per-task, on any node: workspace, data and database
    must then be the same on all of them (a shared folder; or --store and PostgreSQL), and the candidates of a run are
    evaluated in its own process.
    """
    from rich.console import Console

    from glorasearch.cli.bars import Bars
    from glorasearch.cli.sweep_table import print_sweep
    from glorasearch.cli.wiring import echo_json
    from glorasearch.db import Database
    from glorasearch.runs.progress import Silent
    from glorasearch.runs.sweep import load_sweep, sweep
    from glorasearch.runs.sweep_table import sweep_result
    from glorasearch.runs.workspace import Workspace

    progress: Progress = Silent() if quiet else Bars(Console(stderr=True))
    wanted = load_sweep(config, overrides, tasks)
    place = Workspace.open(workspace, database, store)
    performer = _performer(executor, progress, **options)
    with redirect_stdout(sys.stderr):  # the table alone goes there, whatever libraries print
        answers = sweep(
            wanted, place, Database(place.database_url), progress=progress, performer=performer, fresh=fresh
        )
    result = sweep_result(wanted, answers)
    echo_json(result) if as_json else print_sweep(result)
    for row in result["tasks"]:
        if row["error"] is not None:
            click.echo(f"task {row['task']} failed: {row['error']}", err=True)
    return 1 if result["failed"] else 0


def _performer(
    executor: str,
    progress: Progress,
    *,
    address: str | None,
    parallel: int | None,
    cpus_per_task: float,
    gpus_per_task: float,
) -> Performer:
    from glorasearch.errors import InputError
    from glorasearch.runs.sweep import on_ray, one_after_the_other

    if executor == "ray":
        return on_ray(progress, address=address, parallel=parallel, cpus=cpus_per_task, gpus=gpus_per_task)
    for option, value, default in (
        ("address", address, None),
        ("parallel", parallel, None),
        ("cpus-per-task", cpus_per_task, 1.0),
        ("gpus-per-task", gpus_per_task, 0.0),
    ):
        if value != default:
            raise InputError(f"--{option} is for Ray; add --executor ray")
    return one_after_the_other(progress)
