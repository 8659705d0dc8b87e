"""`glorasearch verify`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import click

from glorasearch.cli.options import json_option, store_option, workspace_options
from glorasearch.terminal import say

if TYPE_CHECKING:
    from glorasearch.runs.intact import Part


_DIGEST: Final = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


@click.command("verify")
@click.argument("run", metavar="RUN|EXPORT")
@click.option("--run", "of_run", metavar="NAME", help="Of EXPORT, if the run has another name now.")
@workspace_options
@store_option
@json_option
def command(
    run: str, of_run: str | None, workspace: str, database: str | None, store: str | None, as_json: bool
) -> int:
    """Compare what RUN has made (weights, trials, exports, report) with the digests in the database.

    EXPORT is the folder of an export in any format, wherever it lies: its files are compared with their digests, and
    what it computes with the trained model of its run.

    The exit code is 0 if everything is as it was made, and 1 if something is missing or damaged.
    """
    from rich.table import Table

    from glorasearch.bounded import user_path
    from glorasearch.cli.output import echo_json
    from glorasearch.errors import InputError, RunNotFoundError
    from glorasearch.plain_console import PlainConsole
    from glorasearch.runs.files import MANIFEST, format_of, is_export
    from glorasearch.runs.workspace import Workspace

    place, folder = Workspace.open(workspace, database, store, create=False), user_path(run)
    say(f"{run}: comparing its files with their digests", err=True)
    from glorasearch.runs.bars import ProgressBars
    from glorasearch.runs.intact import verify_run
    from glorasearch.runs.verify_export import verify_export

    if format_of(folder) is not None or is_export(folder):
        found = verify_export(place, folder.resolve(), of_run, progress=ProgressBars())
    else:
        try:
            found = verify_run(place, run)
        except RunNotFoundError as error:
            if not folder.exists():
                raise
            raise InputError(
                f"{folder} is no export: {MANIFEST}, or config.json of timm's format, is not there or cannot be read; "
                f"and {error}"
            ) from error
    code = 0 if found.intact else 1
    if as_json:
        echo_json(found.to_json())
        return code
    table = Table()
    for column in ("part", "place", "found"):
        table.add_column(column, overflow="fold")
    for row in _rows(found.parts, str(place.path.resolve())):
        table.add_row(*row)
    PlainConsole().print(table)
    if not found.intact:
        bad = sum(part.damage is not None for part in found.parts)
        say(f"{bad} of {len(found.parts)} parts of run {found.run} are missing or damaged. {found.remedy}")
    return code


def _rows(parts: Sequence[Part], workspace: str) -> Iterator[tuple[str, str, str]]:
    """Part, place, what was found: intact ones of a kind in one row, by their places within the workspace.

    What is damaged has a row of its own, with its whole place.
    """
    intact: dict[str, list[str]] = {}
    for part in parts:
        if part.damage is None:
            intact.setdefault(part.part, []).append(part.place)
    for kind, places in intact.items():
        short = [_DIGEST.sub(r"\1...", one.replace(f"{workspace}/", "")) for one in places]
        folders = Counter(one.rpartition("/")[0] for one in short)
        said = [one if not folder or folders[folder] == 1 else f"{folder}: {folders[folder]} files"
                for one in short for folder in [one.rpartition("/")[0]]]  # fmt: skip
        yield kind, "\n".join(dict.fromkeys(said)), "intact"
    for part in parts:
        if part.damage is not None:
            yield part.part, part.place, part.damage
