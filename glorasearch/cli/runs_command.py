"""`glorasearch runs`."""

from __future__ import annotations

import click

from glorasearch.cli.options import json_option, workspace_options
from glorasearch.terminal import say


@click.command("runs")
@workspace_options
@json_option
def command(workspace: str, database: str | None, as_json: bool) -> None:
    """List the runs of a workspace."""
    from rich.table import Table

    from glorasearch.cli.output import echo_json
    from glorasearch.plain_console import PlainConsole
    from glorasearch.runs.workspace import Workspace

    found = Workspace.open(workspace, database, create=False)
    rows = [
        {
            "run": record.name,
            "state": record.state,
            "stages": list(record.stages),
            "backbone": record.config["backbone"]["name"],
            "task": record.config["data"]["source"],
            "space": record.config["space"]["name"],
            "updated": record.updated.isoformat(timespec="seconds"),
            "error": record.error,
        }
        for record in found.list_runs()
    ]
    if as_json:
        echo_json(rows)
        return
    if not rows:
        say(f"no runs in {found.path}; `glorasearch quickstart` or `glorasearch init` makes the first")
        return
    table = Table()
    for column in ("run", "state", "last stage", "backbone", "task", "space", "updated"):
        table.add_column(column)
    for row in rows:
        last = row["stages"][-1] if row["stages"] else "-"
        table.add_row(*(last if key == "stages" else str(row[key]) for key in row if key != "error"))
    PlainConsole().print(table)
