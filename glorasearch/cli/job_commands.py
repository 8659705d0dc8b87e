"""`glorasearch status` and `stop`: the jobs of runs on a Ray cluster, and what `submit` shares with them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from glorasearch.cli.options import json_option
from glorasearch.cli.output import count, echo_json
from glorasearch.errors import RunError, RunNotFoundError
from glorasearch.quantities import MISSING
from glorasearch.terminal import say

if TYPE_CHECKING:
    from workers.jobs import JobRecord, RunJobs

address_option = click.option(
    "--address",
    required=True,
    metavar="URL",
    envvar="RAY_API_SERVER_ADDRESS",
    show_envvar=True,
    help="Dashboard of the cluster's head node, such as http://head:8265.",
)


@click.command("status")
@click.argument("run", required=False)
@address_option
@click.option("--follow", "follows", is_flag=True, help="Stream the log of RUN's newest job until it ends.")
@json_option
def status(run: str | None, address: str, follows: bool, as_json: bool) -> int:
    """Show the runs of a Ray cluster by their newest jobs, or all jobs of RUN and the end of the newest one's log."""
    if follows and run is None:
        raise click.UsageError("--follow: say which RUN")
    jobs = open_jobs(address)
    if run is not None and follows:
        return follow(jobs, jobs.latest(run), as_json=as_json)
    found = list({job.run: job for job in jobs.all()}.values())
    if run is not None:
        newest = jobs.latest(run)
        found = jobs.of_run(run)
    if as_json:
        echo_json([job_json(job) for job in found])
        return 0
    if not found:
        raise RunNotFoundError(f"no jobs of runs on {jobs.address}; send one by `glorasearch submit RUN.toml`")
    _print_jobs(found)
    if run is not None:
        last = [line for line in jobs.log(newest).splitlines() if line.strip()][-5:]
        say("\n".join([f"{newest.id}: {_state(newest)}", *(f"  {line}" for line in last)]))
    return 0


@click.command("stop")
@click.argument("run")
@address_option
@json_option
def stop(run: str, address: str, as_json: bool) -> int:
    """Stop RUN's job on a Ray cluster and wait until it has ended; what it has done is kept, and it can be resumed."""
    jobs = open_jobs(address)
    job = jobs.latest(run)
    if not job.live:
        raise RunError(f"run {run!r} has no job at work: the newest, {job.id}, is {job.state.lower()}")
    ended = jobs.stop(job)
    if as_json:
        echo_json(job_json(ended))
    else:
        say(f"job {ended.id}: {ended.state.lower()}; submit the run again to resume it")
    return 0


def open_jobs(address: str) -> RunJobs:
    """The jobs of a cluster; Ray is imported here."""
    from workers.jobs import RunJobs

    return RunJobs(address)


def follow(jobs: RunJobs, job: JobRecord, *, as_json: bool) -> int:
    """Stream a job's log until it ends; returns the exit code: 0 if it succeeded, 1 if not, 130 after Ctrl+C.

    Ctrl+C ends the streaming, not the job. With `as_json` the log goes to standard error, and the job's record to
    standard output.
    """
    stream = sys.stderr if as_json else sys.stdout

    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    try:
        ended = jobs.follow(job, write)
    except KeyboardInterrupt:
        say(f"\njob {job.id} continues without you. {next_commands(jobs, job.run)}", err=True)
        return 130
    if as_json:
        echo_json(job_json(ended))
    if ended.state == "SUCCEEDED":
        return 0
    say(f"job {ended.id}: {_state(ended)}; submit the run again to resume it", err=True)
    return 1


def next_commands(jobs: RunJobs, run: str) -> str:
    """How to follow and how to stop the job of a run."""
    return f"Follow it: {jobs.command('status', run)} --follow; stop it: {jobs.command('stop', run)}"


def job_json(job: JobRecord) -> dict[str, Any]:
    """A job as JSON."""
    return {
        "run": job.run,
        "job": job.id,
        "state": job.state,
        "message": job.message,
        "workspace": job.metadata.get("glorasearch_workspace"),
        "started": None if job.started is None else job.started.isoformat(timespec="seconds"),
        "ended": None if job.ended is None else job.ended.isoformat(timespec="seconds"),
        "seconds": job.seconds,
        "entrypoint": job.entrypoint,
    }


def _state(job: JobRecord) -> str:
    """The state of a job in one line, with the first line of the reason if it failed."""
    reason = next(iter(job.message.splitlines()), "").rstrip(".: ,")
    return f"{job.state.lower()} ({reason})" if job.state == "FAILED" and reason else job.state.lower()


def _print_jobs(jobs: list[JobRecord]) -> None:
    from rich.table import Table

    from glorasearch.plain_console import PlainConsole

    table = Table()
    for column in ("run", "state", "started", "seconds", "job"):
        table.add_column(column, overflow="fold")
    for job in jobs:
        started = MISSING if job.started is None else job.started.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(job.run, job.state.lower(), started, count(job.seconds), job.id)
    PlainConsole().print(table)
