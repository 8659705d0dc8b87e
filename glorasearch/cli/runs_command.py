"""`glorasearch runs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from glorasearch.cli.options import json_option, workspace_options
from glorasearch.cli.runs_note import note
from glorasearch.cli.runs_tidy import prune, rename, rm
from glorasearch.cli.standing import age
from glorasearch.runs.scores import scores
from glorasearch.terminal import say

if TYPE_CHECKING:
    from glorasearch.db import RunRecord, RunStore

HEADS = ("run", "score, %", "state", "age", "stage", "task", "backbone", "space", "note")
NARROW = 5
"""Of these columns are shown whole, the others as far as there is room."""
LONGEST = 24
"""Columns of a run's name before it is folded."""


@click.group("runs", invoke_without_command=True)
@workspace_options
@json_option
@click.pass_context
def command(context: click.Context, workspace: str, database: str | None, as_json: bool) -> None:
    """List the runs of a workspace; note something of them, remove or rename them.

    \b
    score  accuracy on the test split; in brackets that of the search's winner on the search split, before the test;
           of numbers the mean squared error (MSE) of standardised targets
    age    since the run's last change
    stage  the last one that has finished; of a run under way the one that it is at
    note   the first line of what `runs note` has recorded; no column where no run has one
    """
    if context.invoked_subcommand is None:
        _list(workspace, database, as_json)


command.add_command(note)
command.add_command(rm)
command.add_command(rename)
command.add_command(prune)


def _list(workspace: str, database: str | None, as_json: bool) -> None:
    from glorasearch.cli.output import echo_json
    from glorasearch.db import NoteStore
    from glorasearch.runs.unfinished import finish_changes
    from glorasearch.runs.workspace import Workspace

    found = Workspace.open(workspace, database, create=False)
    finish_changes(found)
    notes = NoteStore(found.database) if found.has_database else None
    texts = {} if notes is None else {name: one.text or None for name, one in notes.all().items()}
    rows: list[dict[str, Any]] = [
        {
            "run": record.name,
            "state": record.state,
            "stages": list(record.stages),
            "under_way": _under_way(found.runs, record),
            "backbone": _entry(record.config, "backbone", "name"),
            "task": _entry(record.config, "data", "source"),
            "space": _entry(record.config, "space", "name"),
            "updated": record.updated.isoformat(timespec="seconds"),
            "error": record.error,
            "note": texts.get(record.name),
            **scores(record),
        }
        for record in found.list_runs()
    ]
    damaged = found.damaged_runs()
    nothing: dict[str, Any] = {
        "stages": [],
        "under_way": None,
        "backbone": None,
        "task": None,
        "space": None,
        "updated": None,
    } | dict.fromkeys(("test_accuracy", "search_accuracy"))
    rows += [
        {"run": name, "state": "damaged", **nothing, "error": reason, "note": texts.get(name)}
        for name, reason in damaged.items()
    ]
    bad_notes = {} if notes is None else notes.damaged()
    if as_json:
        echo_json(rows)
    elif not rows:
        say(f"no runs in {found.path}; `glorasearch quickstart` or `glorasearch init` makes the first")
    else:
        _print([_line(row) for row in rows])
    for name, reason in {} if as_json else damaged.items():
        say(f"run {name} cannot be read: {reason}", err=True)
    for name, reason in bad_notes.items():
        say(f"the note of run {name} cannot be read: {reason}", err=True)


def _print(lines: Sequence[Sequence[str]]) -> None:
    """The table."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from glorasearch.plain_console import PlainConsole

    console = PlainConsole()
    heads = HEADS if any(line[-1] for line in lines) else HEADS[:-1]
    widths = [max(map(len, column)) for column in zip(HEADS, *lines, strict=True)][: len(heads)]
    widths[0] = min(widths[0], LONGEST)
    room = console.width - sum(widths[:NARROW]) - 2 * len(heads)
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for number, head in enumerate(heads):
        width = widths[number]
        if number >= NARROW:
            width = min(width, max(1, room // (len(heads) - number)))
            room -= width
        right = head in ("score, %", "age")
        table.add_column(
            head,
            justify="right" if right else "left",
            overflow="fold" if not number else "ellipsis",
            no_wrap=number > 0,
            width=width,
        )
    for line in lines:
        table.add_row(*line[: len(heads)])
    console.print(table)


def _line(row: Mapping[str, Any]) -> list[str]:
    """A run in a row of the table."""
    from glorasearch.runs.paths import public_name

    score = "-" if row["search_accuracy"] is None else f"({100 * row['search_accuracy']:.1f})"
    if row["test_accuracy"] is not None:
        score = f"{100 * row['test_accuracy']:.1f}"
    elif row.get("test_error") is not None:
        score = f"MSE {row['test_error']:.3f}"
    elif row.get("search_error") is not None:
        score = f"(MSE {row['search_error']:.3f})"
    stages = [name for stage in row["stages"] if (name := stage.partition(":")[0]) != "format"]  # a format comes after
    last = stages[-1] if stages else "-"
    if (now := row["under_way"]) is not None:
        share = f" {100 * now['done'] / now['total']:.0f} %" if now["total"] else ""
        last = f"{now['stage'].partition(':')[0]}{share}"
    named = ("-" if row[key] is None else public_name(row[key]) for key in ("task", "backbone", "space"))
    note = (row["note"] or "").partition("\n")[0]
    return [row["run"], score, str(row["state"]), age(row["updated"]), last, *named, note]


def _under_way(runs: RunStore, record: RunRecord) -> dict[str, Any] | None:
    """The stage, or part of one, that a run is at, and how far."""
    if record.state != "running":
        return None
    rows = [row for row in runs.progress(record.name) if row.state == "running"]
    if not rows:
        return None
    row = max(rows, key=lambda row: row.started)
    return {"stage": row.stage, "done": row.done, "total": row.total}


def _entry(config: Mapping[str, Any], section: str, key: str) -> str | None:
    """An entry of a recorded configuration, which may be any JSON object."""
    table = config.get(section)
    return str(table[key]) if isinstance(table, dict) and key in table else None
