"""`glorasearch sweep`."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from glorasearch.cli.options import run_options
from glorasearch.cli.output import count
from glorasearch.errors import InputError
from glorasearch.quantities import MISSING, percent
from glorasearch.runs.resources import EXECUTORS
from glorasearch.terminal import say

if TYPE_CHECKING:
    from glorasearch.runs.progress import Progress
    from glorasearch.runs.sweep import SweepResult, TaskRunner


@click.command("sweep")
@click.argument("config", metavar="CONFIG", type=click.Path(path_type=Path))
@run_options
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
    type=click.Choice(list(EXECUTORS)),
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
    code_cache: str | None,
    fresh: bool,
    quiet: bool,
    as_json: bool,
    executor: str,
    **options: Any,
) -> int:
    """Run the run file CONFIG for each of several tasks, and print one table at the end.

    `{task}` in data.source stands for the name of the task, as in "vtab:/data/vtab-1k/{task}"; the run of a task is
    named <name>-<task>. Accuracies are those of the refitted winners on the test split; for VTAB-1k also the mean of
    each group and the mean over the groups.

    A task that fails does not stop the others: it is named at the end, and the exit code is 1. After an interruption,
    the same command resumes, task by task.

    With Ray each run is a process with --cpus-per-task and --gpus-per-task, on any node: workspace, data and database
    must then be the same on all of them (a shared folder; or --store and PostgreSQL), and the candidates of a run are
    evaluated in its own process.
    """
    from glorasearch.cli.output import echo_json
    from glorasearch.runs.bars import ProgressBars
    from glorasearch.runs.progress import Silent
    from glorasearch.runs.sweep import sweep
    from glorasearch.runs.sweep_tasks import load_sweep
    from glorasearch.runs.workspace import Workspace

    progress: Progress = Silent() if quiet else ProgressBars()
    wanted = load_sweep(config, overrides, tasks)
    runner = _runner(executor, progress, **options)
    with redirect_stdout(sys.stderr):  # the table alone goes there, whatever libraries print
        place = Workspace.open(workspace, database, store, code_cache=code_cache)
        result = sweep(wanted, place, progress=progress, runner=runner, fresh=fresh)
    echo_json(result.to_json()) if as_json else _print_table(result)
    for row in result.tasks:
        if row.error is not None:
            say(f"task {row.task} failed: {row.error}", err=True)
    return 1 if result.failed else 0


def _runner(
    executor: str,
    progress: Progress,
    *,
    address: str | None,
    parallel: int | None,
    cpus_per_task: float,
    gpus_per_task: float,
) -> TaskRunner:
    from glorasearch.runs.sweep import run_here, run_on_ray

    if executor == "ray":
        return run_on_ray(progress, address=address, parallel=parallel, cpus=cpus_per_task, gpus=gpus_per_task)
    for option, value, default in (
        ("address", address, None),
        ("parallel", parallel, None),
        ("cpus-per-task", cpus_per_task, 1.0),
        ("gpus-per-task", gpus_per_task, 0.0),
    ):
        if value != default:
            raise InputError(f"--{option} is for Ray; add --executor ray")
    return run_here(progress)


def _print_table(result: SweepResult) -> None:
    """Print a row for each task, and below them the means."""
    from rich.table import Table

    from glorasearch.plain_console import PlainConsole

    groups = result.groups
    table = Table(title="Accuracy of the refitted winners on the test split", title_justify="left")
    table.add_column("task")
    if groups:
        table.add_column("group")
    for column in ("parameters", "search", "test"):
        table.add_column(column, justify="right")

    def add(name: str, group: str, *numbers: str, style: str | None = None) -> None:
        table.add_row(name, *([group] if groups else []), *numbers, style=style)

    for row in result.tasks:
        numbers = count(row.parameters), percent(row.search_accuracy), percent(row.test_accuracy)
        add(row.task, row.group or MISSING, *numbers)
    table.add_section()
    for name, mean in groups.items():
        part = "" if mean.tasks == mean.of else f" ({mean.tasks} of {mean.of})"
        add(f"mean of {name}{part}", "", count(mean.parameters), MISSING, percent(mean.test_accuracy))
    if groups:
        add("mean of the groups' means", "", MISSING, MISSING, percent(result.mean_of_groups), style="bold")
    else:
        add("mean", "", MISSING, MISSING, percent(result.mean), style="bold")
    PlainConsole().print(table)
