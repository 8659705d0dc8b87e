"""The metrics of the final report as a table, and what is taken for what."""

from __future__ import annotations

from typing import Final

from rich.table import Table

from glorasearch.plain_console import PlainConsole
from glorasearch.runs.metric_rows import metric_rows
from glorasearch.runs.output_rows import output_rows
from glorasearch.runs.results import Report

WORST: Final = 3
"""Confusions that are named."""
MOST_OUTPUTS: Final = 40
"""Labels or targets with a row each."""


def print_metrics(report: Report, console: PlainConsole) -> None:
    """Print the winner's metrics with their intervals, those of the baselines beside them."""
    if not report.metrics:
        return
    table = Table(title="on the test images", title_justify="left")
    table.add_column("metric")
    table.add_column("winner", justify="right")
    table.add_column("95 %", justify="right")
    for name in report.baselines:
        table.add_column(name, justify="right")
    for row in metric_rows(report):
        table.add_row(row.label, row.value, row.interval, *row.others)
    console.print(table)
    outputs = _outputs(report)
    if outputs is not None:
        console.print(outputs)
    if confused := _confused(report):
        console.print(confused, highlight=False, markup=False, soft_wrap=True)


def _outputs(report: Report) -> Table | None:
    """The metrics of each target, in its own unit, or of each label; None if that says nothing more."""
    rows = output_rows(report)
    if not 1 < len(rows) - 1 <= MOST_OUTPUTS:
        return None
    heading, *lines = rows
    title = "each target, in its own unit" if report.by_target else "each label"
    table = Table(title=title, title_justify="left")
    for place, name in enumerate(heading):
        table.add_column(name, overflow="fold", justify="right" if place else "left")
    for line in lines:
        table.add_row(*line)
    return table


def _confused(report: Report) -> str:
    """The pairs of classes that are confused most; empty if none are, or if classes have no names."""
    names = report.splits.class_names
    wrong = sorted((pair for pair in report.confusion if pair.label != pair.prediction), key=lambda pair: -pair.images)
    if not names or not wrong:
        return ""
    listed = (f"{names[pair.label]} for {names[pair.prediction]} ({pair.images})" for pair in wrong[:WORST])
    return f"mistaken most often: {', '.join(listed)}"
