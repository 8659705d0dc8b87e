"""`glorasearch run` and `quickstart`, which run all stages, and the commands that run one, such as `train`."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from glorasearch.cli.options import (
    dry_run_option,
    executor_options,
    json_option,
    quiet_option,
    run_file_options,
    run_options,
    store_option,
    workspace_options,
)
from glorasearch.terminal import say
from glorasearch.version import __version__

if TYPE_CHECKING:
    from glorasearch.runs.config import RunConfig
    from glorasearch.runs.points import Searched
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
    _begin(config, **options)
    _run_all(_config_of(config, overrides, **options), **options)


@click.command("quickstart")
@workspace_options
@store_option
@executor_options
@json_option
@quiet_option
@dry_run_option
@click.option("--fresh", is_flag=True, help="Forget an earlier quickstart in this workspace, and start over.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override, such as search.trials=50.")
def quickstart(overrides: tuple[str, ...], **options: Any) -> None:
    """Adapt the small shipped vision transformer (Fashion-MNIST) to handwritten digits: all stages, on a CPU."""
    _begin("the shipped run file", **options)
    from glorasearch.assets import quickstart_run_file
    from glorasearch.runs.config import RunConfig

    _run_all(RunConfig.load(quickstart_run_file(), overrides), **options)


@click.command("train")
@run_file_options
@executor_options
def train(**options: Any) -> None:
    """Find the learning rate if the run file leaves it open, train the supernet and store its weights."""
    _run_one("train", **options)


@click.command("search")
@run_file_options
@executor_options
def search(**options: Any) -> None:
    """Search the best subnet with the weights of the training."""
    _run_one("search", **options)


@click.command("race")
@run_file_options
@executor_options
def race(**options: Any) -> None:
    """Train the best subnets and the fixed methods alone at several rates, and rank them out of fold."""
    _run_one("race", **options)


@click.command("refit")
@run_file_options
def refit(**options: Any) -> None:
    """Train the winner of the race, or of the search where there is none, alone on train + search."""
    _run_one("refit", **options)


@click.command("export")
@click.argument("config", metavar="CONFIG|RUN", type=click.Path(path_type=Path))  # a folder may be called as the run
@run_options
@click.option("--trial", type=click.IntRange(0), help="Refit and export this trial of RUN, as a run of its own.")
@click.option(
    "--max-params", type=click.IntRange(0), help="The same of the best trial with at most so many parameters."
)
def export(trial: int | None, max_params: int | None, config: Path, **options: Any) -> None:
    """Export the refitted winner as a merged timm model.

    With --trial or --max-params CONFIG is the name of a run whose search has finished, or its run file. That trial is
    refitted, tested and exported as a run of its own, which takes over rate, supernet and baselines. Its name is
    RUN-trial-N, unless --set name=NAME gives another; --set may also change what is in refit, export and report.
    """
    if trial is None and max_params is None:
        _run_one("export", config=config, **options)
    else:
        _export_point(str(config), trial, max_params, **options)


def _config_of(
    given: Path, overrides: tuple[str, ...], *, workspace: str, database: str | None, store: str | None, **options: Any
) -> RunConfig:
    """The run file, or what a run of that name was started with."""
    from glorasearch.runs.config import RunConfig

    if given.is_file() or given.suffix == ".toml" or len(given.parts) != 1:
        return RunConfig.load(given, overrides)
    from glorasearch.runs.remembered import remembered
    from glorasearch.runs.workspace import Workspace

    return remembered(Workspace.open(workspace, database, store, create=False), str(given), overrides)


def _begin(what: object, *, quiet: bool, **options: Any) -> None:
    """The first line, before anything slow is imported."""
    if not quiet:
        say(f"glorasearch {__version__}: {what}", err=True)


def _export_point(
    run: str, trial: int | None, max_params: int | None, overrides: tuple[str, ...], **options: Any
) -> None:
    """Run all stages of a trial that is a run of its own, and print the report."""
    from glorasearch.errors import InputError
    from glorasearch.runs.config import RunConfig
    from glorasearch.runs.points import Searched
    from glorasearch.runs.workspace import Workspace

    if trial is not None and max_params is not None:
        raise InputError("--trial names a trial, --max-params chooses one: give one of them")
    name = RunConfig.load(Path(run)).name if Path(run).is_file() else run
    place = (options[key] for key in ("workspace", "database", "store"))
    searched = Searched.find(Workspace.open(*place, create=False), name)
    number = _best_within(searched, max_params, **options) if max_params is not None else trial
    assert number is not None
    known = searched.results.search_of_pick, searched.results.export
    if known[0] is not None and known[0].trial == number and known[1] is not None:
        say(f"notice: run {name!r} exports trial {number} itself, as {known[1].path}", err=True)
    _run_all(searched.config_of(number, overrides), **options)


def _best_within(searched: Searched, parameters: int, *, as_json: bool, fresh: bool, **options: Any) -> int:
    """The number of the best trial of at most so many parameters; the model is asked only where it has to be."""
    best = searched.best_within(parameters)
    if searched.undecided(parameters, best):
        session = _make_run(searched.run_config, **options).session()
        from glorasearch.runs.stages.point import best_within

        with redirect_stdout(sys.stderr):
            best = best_within(session, searched, parameters)
    say(f"trial {best.number} of run {searched.name!r} has {best.parameters:,} parameters", err=True)
    return best.number


def _run_all(config: RunConfig, *, as_json: bool, fresh: bool, dry_run: bool = False, **options: Any) -> None:
    """Run all stages and print the report."""
    from glorasearch.cli.output import echo_json
    from glorasearch.cli.report_table import print_report

    made = _make_run(config, **options)
    if dry_run:
        _look_ahead(made, None, as_json=as_json, fresh=fresh)
        return
    with redirect_stdout(sys.stderr):  # the report alone goes there, whatever libraries print (Ray: deaths of workers)
        report = made.execute(fresh=fresh)
    echo_json(report.to_json()) if as_json else print_report(report)


def _look_ahead(made: Run, stage: str | None, *, as_json: bool, fresh: bool) -> None:
    """Say what is ahead of a run."""
    from glorasearch.cli.output import echo_json

    with redirect_stdout(sys.stderr):
        found = made.forecast(stage, fresh=fresh)
    if as_json:
        echo_json(found.to_dict() | {"run": made.name})
    else:
        say("\n".join(found.sentences))
        say("nothing was started (--dry-run)")


def _run_one(
    stage: str,
    config: Path,
    overrides: tuple[str, ...],
    as_json: bool,
    fresh: bool,
    dry_run: bool = False,
    **options: Any,
) -> None:
    """Run one stage and print its result."""
    _begin(config, **options)
    from glorasearch.cli.output import echo_json
    from glorasearch.cli.race_table import print_race
    from glorasearch.runs.results import RaceResult

    made = _make_run(_config_of(config, overrides, **options), **options)
    if dry_run:
        _look_ahead(made, stage, as_json=as_json, fresh=fresh)
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
        if not isinstance(value, (dict, list)):
            say(f"{key:<22} {value}")


def _make_run(
    config: RunConfig,
    *,
    workspace: str,
    database: str | None,
    store: str | None,
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
        Workspace.open(workspace, database, store),
        resources=where,
        progress=Silent() if quiet else ProgressBars(),
    )
