"""`glorasearch dashboard`."""

from __future__ import annotations

from contextlib import suppress

import click

from glorasearch.cli.options import workspace_options
from glorasearch.errors import InputError
from glorasearch.terminal import say


@click.command("dashboard")
@workspace_options
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
def command(
    workspace: str, database: str | None, host: str, port: int, names: tuple[str, ...], token: str | None
) -> None:
    """Serve pages of the workspace's runs, and Optuna's dashboard of their searches (read-only).

    The pages show runs, a run, a trial, and runs side by side; they renew themselves while a run goes on. Optuna's has
    a summary of each trial.
    """
    from dashboards import check_token, make_server
    from glorasearch.runs.workspace import Workspace

    check_token(host, token)
    found = Workspace.open(workspace, database, create=False)
    if not found.has_database:
        raise InputError(f"workspace {found.path} has no database yet; start a run, or choose another with --workspace")
    url, runs = found.database_url, found.path / "runs"
    with make_server(url, host=host, port=port, names=names, folder=runs, token=token) as server:
        say(f"dashboard of {found.path} on http://{host}:{server.port} (Ctrl+C stops it)")
        with suppress(KeyboardInterrupt):
            server.run()
