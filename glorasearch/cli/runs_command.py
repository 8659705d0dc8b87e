"""`glorasearch runs`."""

from __future__ import annotations

import click

from glorasearch.cli.options import json_option, place_options


@click.command("runs")
@place_options
@json_option
def command(workspace: str, database: str | None, as_json: bool) -> None:
    """List the runs of a workspace."""
    from rich.console import Console
    from rich.table import Table

    from glorasearch.cli.wiring import echo_json, listed_runs

    place, store = listed_runs(workspace, database)
    runs = [] if store is None else store.list()
    rows = [
        {
            "run": run.name,
            "state": run.state,
            "stages": list(run.stages),
            "backbone": run.config["backbone"]["name"],
            "task": run.config["data"]["source"],
            "space": run.config["space"]["name"],
            "updated": run.updated.isoformat(timespec="seconds"),
            "error": run.error,
        }
        for run in runs
    ]
    if as_json:
        echo_json(rows)
        return
    if not rows:
        click.echo(f"no runs in {place.path}; `glorasearch quickstart` or `glorasearch init` makes the first")
        return
    table = Table()
    for column in ("run", "state", "last stage", "backbone", "task", "space", "updated"):
        table.add_column(column)
    for row in rows:
        last = row["stages"][-1] if row["stages"] else "-"
        table.add_row(*(last if key == "stages" else str(row[key]) for key in row if key != "error"))
    Console().print(table)
