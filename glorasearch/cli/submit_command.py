"""`glorasearch submit`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from glorasearch.cli.job_commands import address_option, follow, job_json, next_commands, open_jobs
from glorasearch.cli.options import json_option
from glorasearch.cli.output import echo_json
from glorasearch.cli.run_commands import run as run_command
from glorasearch.terminal import say

_NOT_PASSED_ON = ("config", "overrides", "workspace", "database", "executor", "address", "as_json")
"""Parameters of `run` that have another meaning here, or that `submit` sets itself."""
_PASSED_ON = [parameter for parameter in run_command.params if parameter.name not in _NOT_PASSED_ON]
"""Options of `run` that are passed on to the job."""


@click.command("submit")
@click.argument("config", type=click.Path(dir_okay=False, path_type=Path))
@address_option
@click.option(
    "--workspace",
    metavar="PATH",
    help="Folder of the cluster for database, weights and runs: of the head node, or shared.  [default: "
    "~/glorasearch-runs]",
)
@click.option(
    "--database",
    metavar="URL",
    envvar="GLORASEARCH_DATABASE",
    help="SQLAlchemy URL, as the cluster reaches it.  [default: GLORASEARCH_DATABASE of the cluster's nodes, or SQLite "
    "in the workspace]",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override, such as search.trials=200.")
@click.option("--driver-cpus", default=0.0, metavar="COUNT", help="CPUs kept for the job's own process.")
@click.option(
    "--driver-gpus",
    default=0.0,
    metavar="COUNT",
    help="GPUs of the job's own process, which refits and tests, and trains where no --train-workers do. It may then "
    "run on any node that has them.  [default: it runs on the head node]",
)
@click.option("--detach", is_flag=True, help="Return once the job is sent.")
@json_option
@click.pass_context
def command(
    context: click.Context,
    /,
    config: Path,
    address: str,
    workspace: str | None,
    database: str | None,
    overrides: tuple[str, ...],
    driver_cpus: float,
    driver_gpus: float,
    detach: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Send the run file CONFIG to a Ray cluster as a job that does what `glorasearch run` does, and follow its log.

    The run file is sent with the search spaces and the plugins that it names; its data and checkpoints must be on the
    cluster. Ctrl+C ends the following, not the job. Exit code 0 if the job succeeded, 1 if it did not.

    Submitting a run whose job was stopped or has failed resumes it.
    """
    from glorasearch.runs.submission import prepare

    sent = prepare(config, overrides, _arguments(context, options), workspace=workspace, database=database)
    if driver_gpus or driver_cpus:
        sent.notes.append("the job may run on any node: all of them must share its workspace")
    jobs = open_jobs(address)
    with tempfile.TemporaryDirectory(prefix="glorasearch-submit-") as folder:
        sent.write(Path(folder))
        job = jobs.submit(
            sent.run,
            sent.entrypoint,
            Path(folder),
            environment=sent.environment,
            metadata=sent.metadata,
            cpus=driver_cpus,
            gpus=driver_gpus,
        )
    for note in sent.notes:
        say(f"note: {note}", err=True)
    say(f"run {sent.run}: job {job.id} on {jobs.address}", err=True)
    if not detach:
        return follow(jobs, job, as_json=as_json)
    if as_json:
        echo_json(job_json(job))
    say(next_commands(jobs, sent.run), err=True)
    return 0


def _arguments(context: click.Context, options: dict[str, Any]) -> list[str]:
    """The options of `run` that were given on the command line or in the environment."""
    given = (click.core.ParameterSource.COMMANDLINE, click.core.ParameterSource.ENVIRONMENT)
    result: list[str] = []
    for parameter in _PASSED_ON:
        name = parameter.name
        if name is None or context.get_parameter_source(name) not in given:
            continue
        value = options[name]
        if isinstance(parameter, click.Option) and parameter.is_flag:
            result += [parameter.opts[0]] if value else []
        else:
            result += [parameter.opts[0], str(value)]
    return result


command.params.extend(_PASSED_ON)
