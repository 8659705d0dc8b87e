"""`glorasearch run` and `quickstart`, which run all stages, and the commands that run one, such as `train`."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from glorasearch.cli.options import (
    code_cache_option,
    dry_run_option,
    executor_options,
    json_option,
    quiet_option,
    run_file_options,
    store_option,
    workspace_options,
)
from glorasearch.terminal import say
from glorasearch.version import __version__

if TYPE_CHECKING:
    from glorasearch.runs.config import RunConfig
    from glorasearch.runs.run import Run


@click.command("run")
@run_file_options
@executor_options
def run(config: Path, overrides: tuple[str, ...], **options: Any) -> None:
    """Run all stages of a run file; after an interruption, the same command resumes.

    The name of a run stands for its run file with the --set values that it was started with, so that `glorasearch run
    NAME` goes on. With --set train.steps=N it trains longer a run whose training has finished: a run of its own, called
    NAME-steps-N, takes over rate and weights, and makes the further steps with a warm-up and a decay of their own.

    A search space with one subnet is a fixed method: it is trained alone, and nothing is searched.
    """
    begin(config, **options)
    run_all(config_of(config, overrides, **options), **options)


@click.command("quickstart")
@workspace_options
@store_option
@code_cache_option
@executor_options
@json_option
@quiet_option
@dry_run_option
@click.option("--fresh", is_flag=True, help="Forget an earlier quickstart in this workspace, and start over.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override, such as search.trials=50.")
def quickstart(overrides: tuple[str, ...], **options: Any) -> None:
    """Adapt the small shipped vision transformer (Fashion-MNIST) to handwritten digits: all stages, on a CPU."""
    begin("the shipped run file", **options)
    from glorasearch.assets import quickstart_run_file
    from glorasearch.runs.config import RunConfig

    run_all(RunConfig.load(quickstart_run_file(), overrides), **options)


@click.command("train")
@run_file_options
@executor_options
def train(**options: Any) -> None:
    """Find the learning rate if the run file leaves it open, train the supernet and store its weights."""
    run_one("train", **options)


@click.command("search")
@run_file_options
@executor_options
def search(**options: Any) -> None:
    """Search the best subnet with the weights of the training."""
    run_one("search", **options)


@click.command("race")
@run_file_options
@executor_options
def race(**options: Any) -> None:
    """Train the best subnets and the fixed methods alone at several rates, and rank them out of fold."""
    run_one("race", **options)


@click.command("refit")
@run_file_options
def refit(**options: Any) -> None:
    """Train the winner of the race, or of the search where there is none, alone on train + search."""
    run_one("refit", **options)


def config_of(
    given: Path, overrides: tuple[str, ...], *, workspace: str, database: str | None, store: str | None, **options: Any
) -> RunConfig:
    """The run file, or what a run of that name was started with."""
    from glorasearch.runs.config import RunConfig

    if given.is_file() or given.suffix == ".toml" or len(given.parts) != 1:
        return RunConfig.load(given, overrides)
    from glorasearch.runs.remembered import remembered
    from glorasearch.runs.workspace import Workspace

    return remembered(Workspace.open(workspace, database, store, create=False), str(given), overrides)


def begin(what: object, *, quiet: bool, **options: Any) -> None:
    """The first line, before anything slow is imported."""
    if not quiet:
        say(f"glorasearch {__version__}: {what}", err=True)


def run_all(config: RunConfig, *, as_json: bool, fresh: bool, dry_run: bool = False, **options: Any) -> None:
    """Run all stages and print the report."""
    from glorasearch.cli.output import echo_json
    from glorasearch.cli.report_table import print_report

    made = make_run(config, **options)
    if dry_run:
        look_ahead(made, None, as_json=as_json, fresh=fresh)
        return
    with redirect_stdout(sys.stderr):  # the report alone goes there, whatever libraries print (Ray: deaths of workers)
        report = made.execute(fresh=fresh)
    echo_json(report.to_json()) if as_json else print_report(report)


def look_ahead(made: Run, stage: str | None, *, as_json: bool, fresh: bool) -> None:
    """Say what is ahead of a run."""
    from glorasearch.cli.output import echo_json

    with redirect_stdout(sys.stderr):
        found = made.forecast(stage, fresh=fresh)
    if as_json:
        echo_json(found.to_dict() | {"run": made.name})
    else:
        say("\n".join(found.sentences))
        say("nothing was started (--dry-run)")


def run_one(
    stage: str,
    config: Path,
    overrides: tuple[str, ...],
    as_json: bool,
    fresh: bool,
    dry_run: bool = False,
    **options: Any,
) -> None:
    """Run one stage and print its result."""
    begin(config, **options)
    from glorasearch.cli.output import echo_json
    from glorasearch.cli.race_table import print_race
    from glorasearch.quantities import three_digits
    from glorasearch.runs.results import RaceResult

    made = make_run(config_of(config, overrides, **options), **options)
    if dry_run:
        look_ahead(made, stage, as_json=as_json, fresh=fresh)
        return
    with redirect_stdout(sys.stderr):
        found = made.execute(stage, fresh=fresh)
    result = found.to_json()
    if as_json:
        echo_json(result)
        return
    if isinstance(found, RaceResult):
        print_race(found)
    for key, value in result.items():
        if not isinstance(value, (dict, list)) and value is not None:
            say(f"{key.replace('_', ' '):<22} {three_digits(value) if isinstance(value, float) else value}")


def make_run(
    config: RunConfig,
    *,
    workspace: str,
    database: str | None,
    store: str | None,
    code_cache: str | None,
    quiet: bool,
    **resources: Any,
) -> Run:
    """The run of a command; its progress goes to standard error. `resources` are the fields of `ResourceConfig`."""
    from glorasearch.runs.bars import ProgressBars
    from glorasearch.runs.progress import Silent
    from glorasearch.runs.resources import ResourceConfig
    from glorasearch.runs.run import Run
    from glorasearch.runs.workspace import Workspace

    where = ResourceConfig(**resources)  # refused before the workspace is made
    return Run(
        config,
        Workspace.open(workspace, database, store, code_cache=code_cache),
        resources=where,
        progress=Silent() if quiet else ProgressBars(),
    )
