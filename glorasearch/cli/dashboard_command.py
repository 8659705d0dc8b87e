"""`glorasearch dashboard`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import click

from glorasearch.cli.options import store_option, workspace_options
from glorasearch.errors import InputError
from glorasearch.terminal import say


@click.command("dashboard")
@workspace_options
@store_option
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; any that other machines reach needs a token.",
)
@click.option(
    "--port",
    default=8080,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port; 0 takes a free one.",
)
@click.option(
    "--allow-host",
    "names",
    multiple=True,
    metavar="NAME",
    help="A further host name by which browsers call this server, such as a proxy's; may be given several times.",
)
@click.option(
    "--token",
    envvar="GLORASEARCH_DASHBOARD_TOKEN",
    help="What readers have to know, 16 characters or more; or in the environment, GLORASEARCH_DASHBOARD_TOKEN.",
)
@click.option(
    "--allow-changes",
    is_flag=True,
    help="Let readers write notes of runs, rename and remove them, by the pages and by Optuna's.",
)
def command(
    workspace: str,
    database: str | None,
    store: str | None,
    host: str,
    port: int,
    names: tuple[str, ...],
    token: str | None,
    allow_changes: bool,
) -> None:
    """Serve pages of the workspace's runs, and Optuna's dashboard of their searches; read-only unless told otherwise.

    The pages show runs, a run, a trial, and runs side by side; they renew themselves while a run goes on. Optuna's has
    a summary of each trial.
    """
    from dashboards import check_token, make_server
    from glorasearch.db.retry import START_SECONDS
    from glorasearch.runs.workspace import Workspace

    check_token(host, token)
    found = Workspace.open(workspace, database, store, create=False)
    if not found.has_database:
        raise InputError(f"workspace {found.path} has no database yet; start a run, or choose another with --workspace")
    url, runs = found.database_url, found.path / "runs"
    changed = replace(found, retry_seconds=START_SECONDS) if allow_changes else None  # somebody waits for the answer
    with make_server(url, host=host, port=port, names=names, folder=runs, token=token, workspace=changed) as server:
        say(f"dashboard of {found.path} on http://{host}:{server.port} (Ctrl+C stops it)")
        if allow_changes:
            say("whoever reads it may write notes of runs, rename and remove them")
        with suppress(KeyboardInterrupt):
            server.run()
