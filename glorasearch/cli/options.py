"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from glorasearch.runs.resources import EXECUTORS

Command = Callable[..., Any]

DEFAULT_WORKSPACE = "./glorasearch-runs"

workspace_option = click.option(
    "--workspace",
    default=DEFAULT_WORKSPACE,
    show_default=True,
    envvar="GLORASEARCH_WORKSPACE",
    help="Folder of database, weights and runs.",
)
database_option = click.option(
    "--database",
    metavar="URL",
    envvar="GLORASEARCH_DATABASE",
    help="SQLAlchemy URL of the database.  [default: SQLite in the workspace]",
)
store_option = click.option(
    "--store",
    metavar="URL",
    envvar="GLORASEARCH_STORE",
    help="Weight store: a path, or a URL such as s3://bucket/prefix.  [default: weights/ in the workspace]",
)
code_cache_option = click.option(
    "--code-cache",
    metavar="FOLDER|off",
    envvar="GLORASEARCH_CODE_CACHE",
    help="Where GPUs' compiled code is kept for the next run.  [default: compiled/ in the workspace]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
quiet_option = click.option("--quiet", is_flag=True, help="No progress bars.")


def workspace_options(command: Command) -> Command:
    """`--workspace` and `--database`."""
    return workspace_option(database_option(command))


def executor_options(command: Command) -> Command:
    """Where a run computes: the fields of `glorasearch.runs.resources.ResourceConfig`."""
    for option in reversed(_EXECUTOR_OPTIONS):
        command = option(command)
    return command


_EXECUTOR_OPTIONS = (
    click.option(
        "--executor",
        default="local",
        show_default=True,
        type=click.Choice(list(EXECUTORS)),
        help="Where candidates are evaluated.",
    ),
    click.option("--workers", type=click.IntRange(1), help="Ray actors that evaluate.  [default: 2]"),
    click.option(
        "--address",
        metavar="HOST:PORT",
        help="Of a Ray cluster, or auto on one of its nodes.  [default: Ray is started on this machine]",
    ),
    click.option("--gpus-per-worker", default=0.0, metavar="SHARE", help="GPUs of each worker; may be a share of one."),
    click.option(
        "--evaluation-timeout",
        type=float,
        metavar="SECONDS",
        help="After this time, give an evaluation that has not answered to another worker.  [default: never]",
    ),
    click.option(
        "--train-workers",
        default=1,
        show_default=True,
        type=click.IntRange(1),
        help="Ray processes that train the supernet together.",
    ),
    click.option("--train-gpus", default=0.0, metavar="COUNT", help="GPUs of each process that trains."),
)


def run_file_options(command: Command) -> Command:
    """The run file, or the name of a run, and `run_options`."""
    argument = click.argument("config", metavar="CONFIG|RUN", type=click.Path(path_type=Path))  # or a folder
    return run_options(dry_run_option(argument(command)))


dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Check everything, say how long it takes and what it writes, and start nothing."
)


def run_options(command: Command) -> Command:
    """`--set`, `--compile`, `--fresh`, `--store`, `--code-cache`, and `workspace_options`."""
    command = click.option("--fresh", is_flag=True, help="Forget what a run of this name has done, and start over.")(
        _compile_is_an_override(command)
    )
    command = click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override, such as search.trials=200."
    )(command)
    command = click.option(
        "--compile",
        type=click.Choice(["auto", "on", "off"]),
        help="On GPUs: compiled and captured steps and candidates, or the plain ones.  [default: as the run file says]",
    )(command)
    return workspace_options(store_option(code_cache_option(quiet_option(json_option(command)))))


def _compile_is_an_override(command: Command) -> Command:
    """`--compile off` means `--set compile=off`."""

    @functools.wraps(command)
    def with_override(*args: Any, compile: str | None, overrides: tuple[str, ...], **options: Any) -> Any:
        more = () if compile is None else (f"compile={compile}",)
        return command(*args, overrides=(*overrides, *more), **options)

    return with_override
