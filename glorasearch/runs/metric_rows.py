"""The metrics of a report on the test images in words: a row each, with intervals, baselines beside the winner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from glorasearch.quantities import MISSING, percent, three_digits
from glorasearch.runs.results import MetricTest, Report, TestResult

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


@dataclass(frozen=True, slots=True)
class MetricRow:
    """A metric of the winner, and of the baselines."""

    label: str
    value: str
    interval: str
    """95 %."""
    others: tuple[str, ...]
    """Of each baseline, in the order of the report."""


def winner_rows(found: Report | TestResult) -> list[tuple[str, str, str]]:
    """Metric, value and 95 % interval of the winner."""
    return [(_label(name, found), _value(name, one), _interval(name, one)) for name, one in found.metrics.items()]


def metric_rows(report: Report) -> list[MetricRow]:
    """The metrics that the winner has."""
    return [
        MetricRow(*row, tuple(_value(name, one.metrics.get(name)) for one in report.baselines.values()))
        for name, row in zip(report.metrics, winner_rows(report), strict=True)
    ]


def number(name: str, value: float) -> str:
    """Three decimals; of errors, which are in units of their own, three digits."""
    return three_digits(value) if name in ("mae", "rmse") else f"{value:.3f}"


def _label(name: str, found: Report | TestResult) -> str:
    if found.temperature is not None and name not in LABELS:
        return f"... at temperature {found.temperature.value:.2f}"
    if name == "auc" and found.splits.task == "multilabel":
        return "AUC, mean of the labels"
    several = ", mean of the targets" if len(found.by_target) > 1 else ""
    return f"{LABELS.get(name, name)}{several}"


def _value(name: str, found: MetricTest | None) -> str:
    if found is None or found.value is None:
        return MISSING
    return percent(found.value) if name in _SHARES else number(name, found.value)


def _interval(name: str, found: MetricTest) -> str:
    if found.interval is None:
        return MISSING
    low, high = found.interval
    if name in _SHARES:
        return f"{100 * low:.1f} to {100 * high:.1f}"
    return f"{number(name, low)} to {number(name, high)}"
