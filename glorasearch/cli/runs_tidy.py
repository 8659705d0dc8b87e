"""`glorasearch runs rm`, `rename` and `prune`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from glorasearch.cli.options import code_cache_option, json_option, store_option, workspace_options
from glorasearch.terminal import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glorasearch.code_cache import CachedCode
    from glorasearch.runs.removal import Removal
    from glorasearch.runs.workspace import Workspace

_dry_run = click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
_yes = click.option("--yes", "-y", is_flag=True, help="Remove without asking.")


@click.command("rm")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@workspace_options
@store_option
@json_option
@_dry_run
@_yes
def rm(runs: tuple[str, ...], workspace: str, database: str | None, store: str | None, **how: bool) -> int:
    """Remove RUNs: their records, trials, folders, and weights that no other run uses.

    A run that is being worked on, or that another run is a point of, is refused. An exported model outside of the
    run's folder stays, and so do weights in a store that is not the workspace's own.
    """
    from glorasearch.runs.removal import removals
    from glorasearch.runs.workspace import Workspace

    found = Workspace.open(workspace, database, store, create=False)
    return _remove(found, removals(found, runs), {}, (), (), **how)


@click.command("prune")
@workspace_options
@store_option
@code_cache_option
@json_option
@_dry_run
@_yes
@click.option(
    "--days", default=7.0, show_default=True, metavar="DAYS", type=click.FloatRange(0), help="Since their last change."
)
def prune(
    workspace: str, database: str | None, store: str | None, code_cache: str | None, days: float, **how: bool
) -> int:
    """Remove the runs that did not finish and that nothing has changed for some days, and weights of no run.

    Runs that are being worked on, and those that another run needs, are kept. Compiled code that no process has begun
    to use for as long goes, too, by versions of torch and kinds of GPU; with --days 0 all that is not in use.
    """
    from glorasearch.runs.removal import old_code, prunable
    from glorasearch.runs.unfinished import stray_weights
    from glorasearch.runs.workspace import Workspace

    found = Workspace.open(workspace, database, store, code_cache=code_cache, create=False)
    old, kept = prunable(found, days)
    return _remove(found, old, kept, stray_weights(found), old_code(found, days), **how)


@click.command("rename")
@click.argument("run")
@click.argument("name")
@workspace_options
@json_option
def rename(run: str, name: str, workspace: str, database: str | None, as_json: bool) -> None:
    """Give RUN another NAME, in the database and of its folder."""
    from glorasearch.cli.output import echo_json
    from glorasearch.runs.removal import rename as rename_run
    from glorasearch.runs.workspace import Workspace

    found = Workspace.open(workspace, database, create=False)
    rename_run(found, run, name)
    if as_json:
        echo_json({"run": name, "before": run, "folder": str(found.run_folder(name))})
    else:
        say(f'run {run} is {name} now; a run file of it goes on with name = "{name}"')


def _remove(
    workspace: Workspace,
    found: Sequence[Removal],
    kept: dict[str, str],
    stray: Sequence[str],
    code: Sequence[CachedCode],
    *,
    as_json: bool,
    dry_run: bool,
    yes: bool,
) -> int:
    """Say what is removed, ask, and remove it; returns the exit code."""
    from glorasearch.cli.output import echo_json
    from glorasearch.code_cache import remove_code
    from glorasearch.runs.removal import remove
    from glorasearch.runs.unfinished import remove_weights

    content: dict[str, Any] = {"runs": [one.to_dict() for one in found], "kept": kept, "stray_weights": list(stray)}
    content["compiled_code"] = [one.to_dict() for one in code]
    if not as_json:
        _say_what(found, kept, stray, code)
    doomed = bool(found or stray or code)
    removed = doomed and not dry_run and (yes or _asked(as_json))
    if removed:
        for one in found:
            remove(workspace, one)
        remove_weights(workspace, stray)
        for used in [one for one in code if not remove_code(one)]:
            say(f"keeps compiled code in {used.path}: a process uses it", err=True)
    if as_json:
        echo_json(content | {"removed": removed})
    elif doomed:
        say("removed" if removed else "nothing was removed")
    return 0 if removed or dry_run or not doomed else 1


def _say_what(found: Sequence[Removal], kept: dict[str, str], stray: Sequence[str], code: Sequence[CachedCode]) -> None:
    for name, why in kept.items():
        say(f"keeps {name}: it {why}")
    for one in found:
        stays = f"; {one.shared} weight sets stay, others may use them" if one.shared else ""
        stays += f"; the exported model {one.export} stays" if one.export else ""
        say(f"removes {one.run} ({one.state}): {one.bytes / 1e6:,.1f} MB{stays}")
    if stray:
        say(f"removes {len(stray)} weight sets that no run uses")
    for part in code:
        used = part.used.astimezone()
        say(f"removes compiled code ({part.text}), last used {used:%Y-%m-%d %H:%M}: {part.bytes / 1e6:,.1f} MB")
    if not found and not stray and not code:
        say("there is nothing to remove")


def _asked(as_json: bool) -> bool:
    """Whether a person agrees.

    Raises:
        InputError: if there is nobody to ask.
    """
    from glorasearch.errors import InputError

    if as_json or not sys.stdin.isatty():
        raise InputError("nothing was removed: say --yes to remove without being asked, or --dry-run to only look")
    return click.confirm("remove it?", err=True)
