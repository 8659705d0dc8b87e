"""`glorasearch verify`."""

from __future__ import annotations

import click

from glorasearch.cli.options import json_option, store_option, workspace_options
from glorasearch.terminal import say


@click.command("verify")
@click.argument("run")
@workspace_options
@store_option
@json_option
def command(run: str, workspace: str, database: str | None, store: str | None, as_json: bool) -> int:
    """Compare what RUN has made (weights, trials, export, report) with the digests in the database.

    The exit code is 0 if everything is as it was made, and 1 if something is missing or damaged.
    """
    from rich.table import Table

    from glorasearch.cli.output import echo_json
    from glorasearch.plain_console import PlainConsole
    from glorasearch.runs.intact import verify_run
    from glorasearch.runs.workspace import Workspace

    found = verify_run(Workspace.open(workspace, database, store, create=False), run)
    code = 0 if found.intact else 1
    if as_json:
        echo_json(found.to_json())
        return code
    table = Table()
    for column in ("part", "place", "found"):
        table.add_column(column, overflow="fold")
    for part in found.parts:
        table.add_row(part.part, part.place, part.damage or "intact")
    PlainConsole().print(table)
    if not found.intact:
        bad = sum(part.damage is not None for part in found.parts)
        say(f"{bad} of {len(found.parts)} parts of run {run} are missing or damaged. {found.remedy}")
    return code
