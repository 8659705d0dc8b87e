"""What the commands for jobs of a Ray cluster have in common."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from glorasearch.cli.wiring import echo_json
from glorasearch.errors import RunNotFoundError

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


def run_jobs(address: str) -> RunJobs:
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
        click.echo(f"\njob {job.id} goes on without you. {how_to_go_on(jobs, job.run)}", err=True)
        return 130
    if as_json:
        echo_json(row(ended))
    if ended.state == "SUCCEEDED":
        return 0
    click.echo(f"job {ended.id}: {why(ended)}; submit the run again to go on where it was", err=True)
    return 1


def how_to_go_on(jobs: RunJobs, run: str) -> str:
    """Where to look next."""
    return f"Follow it: {jobs.command('status', run)} --follow; stop it: {jobs.command('stop', run)}"


def why(job: JobRecord) -> str:
    """How a job stands, in one line: its state, and of one that failed the first line of the reason."""
    reason = next(iter(job.message.splitlines()), "").rstrip(".: ,")
    return f"{job.state.lower()} ({reason})" if job.state == "FAILED" and reason else job.state.lower()


def row(job: JobRecord) -> dict[str, Any]:
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


def no_jobs(address: str) -> RunNotFoundError:
    """What to say of a cluster without runs."""
    return RunNotFoundError(f"no jobs of runs on {address}; send one by `glorasearch submit RUN.toml`")
