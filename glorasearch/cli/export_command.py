"""`glorasearch export`: the winner of a run, or a trial of its search, as a model to take away."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from glorasearch.cli.options import run_options
from glorasearch.cli.run_commands import begin, config_of, make_run, run_all, run_one
from glorasearch.runs.files import FORMATS
from glorasearch.terminal import say

if TYPE_CHECKING:
    from glorasearch.runs.config import RunConfig
    from glorasearch.runs.points import Searched

TIMM = FORMATS[0]


@click.command("export")
@click.argument("config", metavar="CONFIG|RUN", type=click.Path(path_type=Path))  # a folder may be called as the run
@run_options
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(FORMATS),
    help="Of the model; may be given several times. All but timm go into folders beside it, such as export-onnx.  "
    "[default: timm]",
)
@click.option(
    "--lossy-rank",
    type=click.IntRange(1),
    metavar="R",
    help="With --format peft: approximate what is not low-rank by rank R, and say how large the error is.",
)
@click.option("--trial", type=click.IntRange(0), help="Refit and export this trial of RUN, as a run of its own.")
@click.option(
    "--max-params", type=click.IntRange(0), help="The same of the best trial with at most so many parameters."
)
def command(
    trial: int | None,
    max_params: int | None,
    formats: tuple[str, ...],
    lossy_rank: int | None,
    config: Path,
    overrides: tuple[str, ...],
    **options: Any,
) -> None:
    """Export the refitted winner as a merged timm model, and in other formats.

    With --trial or --max-params CONFIG is the name of a run whose search has finished, or its run file. That trial is
    refitted, tested and exported as a run of its own, which takes over rate, supernet and baselines. Its name is
    RUN-trial-N, unless --set name=NAME gives another; --set may also change what is in refit, export and report.

    Formats: timm (a folder that timm loads, and the Hugging Face hub takes), adapter (what was trained, without the
    backbone), peft (an adapter for PEFT, where the winner is LoRA with biases), onnx, torch-export, and safetensors
    (the merged weights alone).
    """
    from glorasearch.errors import InputError

    others = [format for format in dict.fromkeys(formats) if format != TIMM]
    if lossy_rank is not None and "peft" not in others:
        raise InputError("--lossy-rank is of --format peft: give that, too, or leave it out")
    point = trial is not None or max_params is not None
    if not others and not point:
        run_one("export", config=config, overrides=overrides, **options)
        return
    if not others:
        run_all(_point(str(config), trial, max_params, overrides, **options), **options)
        return
    begin(config, **options)
    if point:
        made = _point(str(config), trial, max_params, overrides, **options)
    else:
        made = config_of(config, overrides, **options)
    _export_formats(made, None if point else "export", others, lossy_rank, **options)


def _export_formats(
    config: RunConfig,
    stage: str | None,
    formats: list[str],
    lossy_rank: int | None,
    *,
    as_json: bool,
    fresh: bool,
    **options: Any,
) -> None:
    """Export the run's model if that has not been done, write the formats, and print where they are."""
    from rich.table import Table

    from glorasearch.cli.output import echo_json
    from glorasearch.plain_console import PlainConsole
    from glorasearch.quantities import byte_size

    made = make_run(config, **options)
    with redirect_stdout(sys.stderr):
        made.execute(stage, fresh=fresh)
        written = made.export_formats(formats, lossy_rank=lossy_rank)
    exported = made.results.export
    assert exported is not None
    if as_json:
        timm = {"format": TIMM, **exported.to_json()}
        echo_json({"run": made.name, "exports": [timm, *(one.to_json() for one in written)]})
        return
    console, table = PlainConsole(), Table(title=f"in {Path(exported.path).parent}", title_justify="left")
    for column in ("format", "folder", "size", "largest difference"):
        table.add_column(column, overflow="fold", justify="right" if column == "size" else "left")
    table.add_row(TIMM, Path(exported.path).name, byte_size(exported.bytes), f"{exported.max_abs_diff:.1e}")
    for result in written:
        table.add_row(result.format, Path(result.path).name, byte_size(result.bytes), f"{result.max_abs_diff:.1e}")
    console.print(table)
    for result in written:
        for note in result.notes:
            console.print(f"{result.format}: {note}", soft_wrap=True, markup=False, highlight=False)


def _point(
    run: str, trial: int | None, max_params: int | None, overrides: tuple[str, ...], **options: Any
) -> RunConfig:
    """The run that a trial of a run is, once it is refitted and exported."""
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
    return searched.config_of(number, overrides)


def _best_within(searched: Searched, parameters: int, *, as_json: bool, fresh: bool, **options: Any) -> int:
    """The number of the best trial of at most so many parameters; the model is asked only where it has to be."""
    best = searched.best_within(parameters)
    if searched.undecided(parameters, best):
        session = make_run(searched.run_config, **options).session()
        from glorasearch.runs.stages.point import best_within

        with redirect_stdout(sys.stderr):
            best = best_within(session, searched, parameters)
    say(f"trial {best.number} of run {searched.name!r} has {best.parameters:,} parameters", err=True)
    return best.number
