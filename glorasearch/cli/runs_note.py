"""`glorasearch runs note`."""

from __future__ import annotations

import sys
from typing import Any

import click

from glorasearch.cli.options import json_option, workspace_options
from glorasearch.terminal import say


@click.command("note")
@click.argument("run")
@click.argument("text", required=False)
@workspace_options
@json_option
@click.option("--delete", is_flag=True, help="Delete the note.")
def note(run: str, text: str | None, workspace: str, database: str | None, as_json: bool, delete: bool) -> None:
    """Note TEXT of RUN, in place of what was noted before; without TEXT, print the note.

    `-` reads the text from standard input. It is shown by `runs`, `show`, the dashboard and the report, goes with the
    run's name when that changes, and away when the run is removed or started over.
    """
    from glorasearch.cli.output import echo_json
    from glorasearch.db import NoteStore
    from glorasearch.errors import InputError
    from glorasearch.runs.workspace import Workspace

    if text is not None and delete:
        raise InputError("give a text, or --delete, not both")
    if text == "-":
        text = sys.stdin.read()
    if text is not None and not text.strip():
        raise InputError("the note is empty; --delete deletes the note that there is")
    found = Workspace.open(workspace, database, create=False)
    if not found.has_database or not found.runs.exists(run):
        found.require_runs([run])
    notes = NoteStore(found.database)
    wanted = "" if delete else text
    now = notes.of(run) if wanted is None else notes.write(run, wanted)
    if as_json:
        changed = None if now.changed is None else now.changed.isoformat(timespec="seconds")
        content: dict[str, Any] = {"run": run, "note": now.text or None, "version": now.version, "changed": changed}
        echo_json(content)
    elif wanted is None:
        say(now.text or f"run {run} has no note; `glorasearch runs note {run} TEXT` writes one")
    else:
        say(f"the note of run {run} is {'written' if now.text else 'deleted'}")
