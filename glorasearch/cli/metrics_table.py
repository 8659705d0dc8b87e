"""The metrics of the final report as a table, and what is taken for what."""

from __future__ import annotations

from typing import Final

from rich.table import Table

from glorasearch.cli.output import MISSING, percent
from glorasearch.plain_console import PlainConsole
from glorasearch.runs.results import MetricTest, Report

LABELS: Final = {
    "top1": "top-1",
    "top5": "top-5",
    "top1_mirrored": "top-1, with mirror images",
    "subset_accuracy": "all labels right",
    "map": "mean average precision",
    "balanced_accuracy": "mean per class",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "auc": "AUC, one against the rest",
    "log_loss": "log loss, nats",
    "r2": "R\u00b2",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "calibration_error": "calibration error",
}
_SHARES: Final = ("top1", "top5", "top1_mirrored", "subset_accuracy", "balanced_accuracy")
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
    for name, found in report.metrics.items():
        others = [baseline.metrics.get(name) for baseline in report.baselines.values()]
        table.add_row(
            _label(name, report), _value(name, found), _interval(name, found), *(_value(name, one) for one in others)
        )
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
        table.add_row(one.name, *(MISSING if value is None else _number(name, value) for name, value in values))
    return table


def _label(name: str, report: Report) -> str:
    if report.temperature is not None and name not in LABELS:
        return f"... at temperature {report.temperature.value:.2f}"
    return LABELS.get(name, name)


def _value(name: str, found: MetricTest | None) -> str:
    if found is None or found.value is None:
        return MISSING
    return percent(found.value) if name in _SHARES else _number(name, found.value)


def _interval(name: str, found: MetricTest) -> str:
    if found.interval is None:
        return MISSING
    low, high = found.interval
    if name in _SHARES:
        return f"{100 * low:.1f} to {100 * high:.1f}"
    return f"{_number(name, low)} to {_number(name, high)}"


def _number(name: str, value: float) -> str:
    """Three decimals; of errors, which are in units of their own, three digits."""
    return f"{value:.3g}" if name in ("mae", "rmse") else f"{value:.3f}"


def _confused(report: Report) -> str:
    """The pairs of classes that are confused most; empty if none are, or if classes have no names."""
    names = report.splits.class_names
    wrong = sorted((pair for pair in report.confusion if pair.label != pair.prediction), key=lambda pair: -pair.images)
    if not names or not wrong:
        return ""
    listed = (f"{names[pair.label]} for {names[pair.prediction]} ({pair.images})" for pair in wrong[:WORST])
    return f"mistaken most often: {', '.join(listed)}"
