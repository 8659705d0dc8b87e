"""`glorasearch stop`."""

from __future__ import annotations

import click

from glorasearch.cli.job_options import address_option
from glorasearch.cli.options import json_option


@click.command("stop")
@click.argument("run")
@address_option
@json_option
def command(run: str, address: str, as_json: bool) -> int:
    """Stop RUN's job on a Ray cluster and wait until it has ended; what it has done is kept, and it can go on."""
    from glorasearch.cli.job_options import row, run_jobs
    from glorasearch.cli.wiring import echo_json
    from glorasearch.errors import RunError

    jobs = run_jobs(address)
    job = jobs.latest(run)
    if not job.live:
        raise RunError(f"run {run!r} has no job at work: the newest, {job.id}, is {job.state.lower()}")
    ended = jobs.stop(job)
    if as_json:
        echo_json(row(ended))
    else:
        click.echo(f"job {ended.id}: {ended.state.lower()}; submit the run again to go on where it was")
    return 0
