"""`glorasearch runs`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from glorasearch.cli.options import json_option, workspace_options
from glorasearch.cli.runs_tidy import prune, rename, rm
from glorasearch.terminal import say


@click.group("runs", invoke_without_command=True)
@workspace_options
@json_option
@click.pass_context
def command(context: click.Context, workspace: str, database: str | None, as_json: bool) -> None:
    """List the runs of a workspace; remove or rename them."""
    if context.invoked_subcommand is None:
        _list(workspace, database, as_json)


command.add_command(rm)
command.add_command(rename)
command.add_command(prune)


def _list(workspace: str, database: str | None, as_json: bool) -> None:
    from rich.table import Table

    from glorasearch.cli.output import echo_json
    from glorasearch.plain_console import PlainConsole
    from glorasearch.runs.unfinished import finish_changes
    from glorasearch.runs.workspace import Workspace

    found = Workspace.open(workspace, database, create=False)
    finish_changes(found)
    rows = [
        {
            "run": record.name,
            "state": record.state,
            "stages": list(record.stages),
            "backbone": _entry(record.config, "backbone", "name"),
            "task": _entry(record.config, "data", "source"),
            "space": _entry(record.config, "space", "name"),
            "updated": record.updated.isoformat(timespec="seconds"),
            "error": record.error,
        }
        for record in found.list_runs()
    ]
    damaged = found.damaged_runs()
    nothing: dict[str, Any] = {"stages": [], "backbone": None, "task": None, "space": None, "updated": None}
    rows += [{"run": name, "state": "damaged", **nothing, "error": reason} for name, reason in damaged.items()]
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
        table.add_row(
            *(last if key == "stages" else "-" if row[key] is None else str(row[key]) for key in row if key != "error")
        )
    PlainConsole().print(table)
    for name, reason in damaged.items():
        say(f"run {name} cannot be read: {reason}", err=True)


def _entry(config: Mapping[str, Any], section: str, key: str) -> str | None:
    """An entry of a recorded configuration, which may be any JSON object."""
    table = config.get(section)
    return str(table[key]) if isinstance(table, dict) and key in table else None
