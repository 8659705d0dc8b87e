"""`glorasearch status`."""

from __future__ import annotations

import click

from glorasearch.cli.job_options import address_option
from glorasearch.cli.options import json_option


@click.command("status")
@click.argument("run", required=False)
@address_option
@click.option("--follow", "follows", is_flag=True, help="Stream the log of RUN's newest job until it ends.")
@json_option
def command(run: str | None, address: str, follows: bool, as_json: bool) -> int:
    """Show the runs of a Ray cluster by their newest jobs, or all jobs of RUN and the end of the newest one's log."""
    from rich.console import Console
    from rich.table import Table

    from glorasearch.cli.job_options import follow, no_jobs, row, run_jobs, why
    from glorasearch.cli.wiring import echo_json

    if follows and run is None:
        raise click.UsageError("--follow: say which RUN")
    jobs = run_jobs(address)
    if run is not None and follows:
        return follow(jobs, jobs.latest(run), as_json=as_json)
    found = list({job.run: job for job in jobs.all()}.values())
    if run is not None:
        newest = jobs.latest(run)
        found = jobs.of_run(run)
    if as_json:
        echo_json([row(job) for job in found])
        return 0
    if not found:
        raise no_jobs(jobs.address)
    table = Table()
    for column in ("run", "state", "started", "seconds", "job"):
        table.add_column(column, overflow="fold")
    for job in found:
        started = "-" if job.started is None else job.started.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        seconds = "-" if job.seconds is None else f"{job.seconds:,.0f}"
        table.add_row(job.run, job.state.lower(), started, seconds, job.id)
    Console().print(table)
    if run is not None:
        last = [line for line in jobs.log(newest).splitlines() if line.strip()][-5:]
        click.echo("\n".join([f"{newest.id}: {why(newest)}", *(f"  {line}" for line in last)]))
    return 0
