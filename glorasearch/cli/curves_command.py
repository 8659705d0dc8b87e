"""`glorasearch curves`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from glorasearch.cli.options import json_option, workspace_options
from glorasearch.errors import InputError
from glorasearch.terminal import say

if TYPE_CHECKING:
    from glorasearch.runs.curves import Row

Curves = Mapping[str, Sequence["Row"]]


@click.command("curves")
@click.argument("run")
@workspace_options
@click.option(
    "--stage", "stages", multiple=True, metavar="STAGE", help="Only this one, such as train; may be repeated."
)
@click.option("--csv", "as_csv", is_flag=True, help="Print every number as CSV: stage, step, name, value.")
@json_option
def command(
    run: str, workspace: str, database: str | None, stages: tuple[str, ...], as_csv: bool, as_json: bool
) -> None:
    """Print the curves of RUN as the database has them, and where TensorBoard finds them.

    A table of the stages and their last values, or every number.
    """
    from glorasearch.cli.output import echo_csv, echo_json
    from glorasearch.runs.curves import opening, stored_rows
    from glorasearch.runs.workspace import Workspace

    if as_csv and as_json:
        raise InputError("--csv and --json are both given; choose one")
    found = Workspace.open(workspace, database, create=False)
    (record,) = found.require_runs([run])
    curves: dict[str, list[Row]] = {}
    for row in stored_rows(found.runs, run, record.stages, record.config):
        curves.setdefault(row.stage, []).append(row)
    for stage in stages:
        if stage not in curves:
            raise InputError(f"--stage {stage}: run {run!r} has no such curves; it has {', '.join(curves) or 'none'}")
    curves = {stage: rows for stage, rows in curves.items() if not stages or stage in stages}
    folder = found.run_files(run).curves
    if as_json:
        of_stages = {stage: [{"step": row.step, **row.values} for row in rows] for stage, rows in curves.items()}
        echo_json({"run": run, "folder": str(folder) if folder.is_dir() else None, "stages": of_stages})
    elif as_csv:
        numbers = (
            (row.stage, row.step, name, value)
            for rows in curves.values()
            for row in rows
            for name, value in row.values.items()
        )
        echo_csv(("stage", "step", "name", "value"), numbers)
    else:
        _print(curves)
        say(f"curves: {opening(folder)}" if folder.is_dir() else f"there are no files in {folder}")


def _print(curves: Curves) -> None:
    """For each stage the first and the last value of its numbers."""
    from rich.table import Table

    from glorasearch.plain_console import PlainConsole

    table = Table()
    for column in ("stage", "number", "points", "steps", "first", "last"):
        table.add_column(column, justify="left" if column in ("stage", "number") else "right", overflow="fold")
    for stage, rows in curves.items():
        for name in dict.fromkeys(name for row in rows for name in row.values):
            points = [(row.step, row.values[name]) for row in rows if name in row.values]
            (begin, first), (end, last) = points[0], points[-1]
            steps = str(end) if begin == end else f"{begin} to {end}"
            table.add_row(stage, name, str(len(points)), steps, f"{first:.4g}", f"{last:.4g}")
    PlainConsole().print(table)
