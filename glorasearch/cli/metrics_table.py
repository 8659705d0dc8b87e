"""The metrics of the final report as a table, and what is taken for what."""

from __future__ import annotations

from typing import Final

from rich.table import Table

from glorasearch.cli.output import MISSING
from glorasearch.plain_console import PlainConsole
from glorasearch.runs.metric_rows import LABELS, metric_rows, number
from glorasearch.runs.results import Report

WORST: Final = 3
"""Confusions that are named."""


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
    if len(report.by_target) > 1:
        console.print(_targets(report))
    if confused := _confused(report):
        console.print(confused, highlight=False, markup=False, soft_wrap=True)


def _targets(report: Report) -> Table:
    """The metrics of each target, in its own unit."""
    table = Table(title="each target, in its own unit", title_justify="left")
    table.add_column("target", overflow="fold")
    for name in ("r2", "mae", "rmse"):
        table.add_column(LABELS[name], justify="right")
    for one in report.by_target:
        values = (("r2", one.r2), ("mae", one.mae), ("rmse", one.rmse))
        table.add_row(one.name, *(MISSING if value is None else number(name, value) for name, value in values))
    return table


def _confused(report: Report) -> str:
    """The pairs of classes that are confused most; empty if none are, or if classes have no names."""
    names = report.splits.class_names
    wrong = sorted((pair for pair in report.confusion if pair.label != pair.prediction), key=lambda pair: -pair.images)
    if not names or not wrong:
        return ""
    listed = (f"{names[pair.label]} for {names[pair.prediction]} ({pair.images})" for pair in wrong[:WORST])
    return f"mistaken most often: {', '.join(listed)}"
