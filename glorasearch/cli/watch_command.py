"""`glorasearch watch`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from glorasearch.cli.options import json_option, workspace_options
from glorasearch.terminal import say

if TYPE_CHECKING:
    from glorasearch.db import RunStore
    from glorasearch.plain_console import PlainConsole
    from glorasearch.runs.watched import Watched

LINES: Final = 10.0
"""Seconds between two lines about the same stage, where there is no terminal."""


@click.command("watch")
@click.argument("run", required=False)
@workspace_options
@click.option("--once", is_flag=True, help="Show how it stands now, and end.")
@click.option(
    "--every",
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(0.1, 3_600),
    help="How often to ask the database.",
)
@json_option
def command(
    run: str | None, workspace: str, database: str | None, once: bool, every: float, as_json: bool
) -> int | None:
    """Watch RUN, or the newest run that is under way, until it ends.

    The database is all that is asked: with --database any machine that reaches it will do. Without a terminal a line
    is printed as a stage begins or ends, and every 10 s between; --json prints an object a line whenever something has
    changed. Ctrl+C ends the watching, not the run. The exit code is 1 if the run failed or was interrupted.
    """
    from glorasearch.errors import InputError
    from glorasearch.runs.watched import Watched, newest_under_way
    from glorasearch.runs.workspace import Workspace

    found = Workspace.open(workspace, database, create=False)
    if not found.has_database:
        raise InputError(f"workspace {found.path} has no database yet; start a run, or choose another with --workspace")
    name = run or newest_under_way(found.runs)
    if once:
        _once(Watched.read(found.runs, name), as_json)
        return None
    try:
        last = _watch(found.runs, name, every, as_json)
    except KeyboardInterrupt:
        return None
    return 1 if last.failed else None


def _once(found: Watched, as_json: bool) -> None:
    from glorasearch.cli.output import echo_json
    from glorasearch.cli.watch_view import watch_view
    from glorasearch.plain_console import PlainConsole

    if as_json:
        echo_json(found.to_json())
    else:
        console = PlainConsole()
        console.print(watch_view(found, console))


def _watch(runs: RunStore, name: str, every: float, as_json: bool) -> Watched:
    from glorasearch.plain_console import PlainConsole

    seen = _seen(runs, name, every)
    if as_json:
        return _objects(seen)
    console = PlainConsole()
    return _live(seen, console) if console.is_terminal else _lines(seen)


def _seen(runs: RunStore, name: str, every: float) -> Iterator[tuple[Watched, float]]:
    """How the run stands, again and again until it ends, with the seconds since it changed: 0 if it just has."""
    from glorasearch.runs.watched import Watched

    before, since = None, time.monotonic()
    while True:
        found = Watched.read(runs, name)
        now = time.monotonic()
        if found != before:
            before, since = found, now
        yield found, now - since
        if not found.under_way:
            return
        time.sleep(every)


def _live(seen: Iterator[tuple[Watched, float]], console: PlainConsole) -> Watched:
    from rich.live import Live

    from glorasearch.cli.watch_view import watch_view

    found, _ = next(seen)
    with Live(watch_view(found, console, fit=True), console=console, auto_refresh=False) as live:
        for found, waited in seen:
            live.update(watch_view(found, console, waited, fit=True), refresh=True)
    return found


def _objects(seen: Iterator[tuple[Watched, float]]) -> Watched:
    from glorasearch.cli.output import echo_json

    for found, waited in seen:  # the last one is returned
        if not waited:
            echo_json(found.to_json(), line=True)
    return found


def _lines(seen: Iterator[tuple[Watched, float]]) -> Watched:
    """A line for every change of a stage's state, and of the stage under way every `LINES` seconds."""
    from glorasearch.cli.watch_view import details, headline

    states: dict[str, str] = {}
    due = 0.0
    found = None
    for found, waited in seen:
        if not states:
            say(headline(found))
        changed = [one for one in found.stages if one.progress is not None and states.get(one.stage) != one.state]
        current = found.current
        if current is not None and current not in changed and time.monotonic() >= due:
            changed.append(current)
        for stage in changed:
            noted = "" if stage.progress is None else stage.progress.note
            parts = [str(stage.state), *details(stage, waited), noted]
            say(f"{stage.stage}: {', '.join(filter(None, dict.fromkeys(parts)))}")
            due = time.monotonic() + LINES
        states |= {one.stage: str(one.state) for one in found.stages}
    assert found is not None
    say(headline(found))
    if found.record.error:
        say(found.record.error)
    return found
