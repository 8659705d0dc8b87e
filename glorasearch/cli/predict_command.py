"""`glorasearch predict`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from glorasearch.cli.options import json_option, quiet_option, workspace_options
from glorasearch.terminal import say

if TYPE_CHECKING:
    from glorasearch.export import Prediction

_COLUMNS = ("label", "probability")


@click.command("predict")
@click.argument("model", metavar="RUN|EXPORT")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--top",
    type=click.IntRange(1),
    help="Classes per image, likeliest first.  [default: 1; all labels of a multi-label model]",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead of a table.")
@json_option
@click.option("--device", default="auto", show_default=True, help="auto (a GPU if there is one), cpu, cuda, cuda:<n>.")
@click.option("--batch-size", default=64, show_default=True, type=click.IntRange(1), help="Images classified at once.")
@click.option(
    "--temperature",
    type=click.FloatRange(0, min_open=True),
    help="Divide outputs by it before the softmax; 1 for the plain softmax.  [default: that of the export]",
)
@quiet_option
@workspace_options
def command(
    model: str,
    paths: tuple[str, ...],
    top: int | None,
    as_csv: bool,
    as_json: bool,
    device: str,
    batch_size: int,
    temperature: float | None,
    quiet: bool,
    workspace: str,
    database: str | None,
) -> int:
    """Classify images with the exported model of a run, given by the run's name or the model's folder.

    Each PATH is a file, a folder, or - for a list on standard input, one path a line. Files are read and preprocessed
    as in the training. The exit code is 1 if some cannot be read; the others are classified.
    """
    from glorasearch.cli.output import echo_json
    from glorasearch.data.names import describe_ignored
    from glorasearch.errors import InputError
    from glorasearch.runs.exports import find_export
    from glorasearch.runs.workspace import Workspace

    if as_csv and as_json:
        raise InputError("--csv and --json: give one of them")
    folder = find_export(Workspace.open(workspace, database, create=False), model)
    from glorasearch.runs.bars import ProgressBars
    from glorasearch.runs.progress import Silent

    progress = Silent() if quiet else ProgressBars()
    progress.say(f"exported model in {folder}: loading torch and timm")
    ignored: Counter[str] = Counter()
    files = _files(paths, ignored)
    from glorasearch.export.predictions import temperature_of
    from glorasearch.runs.predictions import predict_images

    used = temperature_of(folder) if temperature is None else temperature
    predictions = predict_images(
        folder,
        files,
        top=top,
        batch_size=batch_size,
        device=device,
        temperature=used,
        progress=progress,
    )
    if as_json:
        echo_json({"export": str(folder), "temperature": used, "predictions": [one.to_json() for one in predictions]})
    elif as_csv:
        _echo_csv(predictions)
    else:
        _print_table(predictions)
    if ignored:
        say(f"not used: {describe_ignored(ignored)}", err=True)
    if used != 1:
        say(f"probabilities are of outputs divided by the temperature {used:.3g}", err=True)
    _say_conversions(predictions)
    broken = [one for one in predictions if one.error is not None]
    for one in broken:
        say(f"error: {one.file}: {one.error}", err=True)
    return 1 if broken else 0


def _files(paths: Sequence[str], ignored: Counter[str]) -> list[Path]:
    """The images of all paths, and of the list on standard input."""
    from glorasearch.data.given_images import given_images, listed_paths

    given: list[str | Path] = []
    for path in paths:
        given.extend(listed_paths(sys.stdin.buffer.read()) if path == "-" else [path])
    return given_images(given, ignored)


def _echo_csv(predictions: Sequence[Prediction]) -> None:
    """A line an image: file, label and probability of each class asked for, and why it could not be read."""
    from glorasearch.cli.output import echo_csv

    names = next((one.labels for one in predictions if one.numbers), None)
    if names is not None:
        rows = [[one.file, *(one.numbers or [""] * len(names)), one.error or ""] for one in predictions]
        echo_csv(["file", *names, "error"], rows)
        return
    classes = max(1, *(len(one.labels) for one in predictions))
    pairs = [f"{name}{f'_{place}' if place > 1 else ''}" for place in range(1, classes + 1) for name in _COLUMNS]

    def row(one: Prediction) -> list[Any]:
        known = [value for pair in zip(one.labels, one.probabilities, strict=True) for value in pair]
        return [one.file, *(known or [""] * len(pairs)), one.error or ""]

    echo_csv(["file", *pairs, "error"], map(row, predictions))


def _print_table(predictions: Sequence[Prediction]) -> None:
    from rich.table import Table

    from glorasearch.plain_console import PlainConsole
    from glorasearch.quantities import percent

    table = Table()
    table.add_column("file", overflow="fold")
    numbers = any(one.numbers for one in predictions)
    table.add_column("target" if numbers else "label", overflow="fold")
    table.add_column("number" if numbers else "probability", justify="right", no_wrap=True)
    for one in predictions:
        if one.numbers:
            table.add_row(
                one.file,
                "\n".join(one.labels),
                "\n".join(f"{number:.9g}" if abs(number) >= 1e6 else f"{number:.6g}" for number in one.numbers),
            )
        elif one.error is None:
            table.add_row(one.file, "\n".join(one.labels), "\n".join(map(percent, one.probabilities)))
        else:
            table.add_row(one.file, "cannot be read", "")
    PlainConsole().print(table)


def _say_conversions(predictions: Iterable[Prediction]) -> None:
    """How many images were converted, and how."""
    counted = Counter(one.conversion for one in predictions if one.conversion)
    if counted:
        each = "; ".join(f"{done} ({number})" for done, number in counted.items())
        say(f"converted as in the training, with the number of images: {each}", err=True)
