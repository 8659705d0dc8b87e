"""The methods that a report compares on the test images: a row each, in the order of its table."""

from __future__ import annotations

from dataclasses import dataclass

from glorasearch.runs.paths import space_label
from glorasearch.runs.results import Report


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodRow:
    """A method, or the mean of several subnets."""

    label: str
    parameters: float
    trained_on: str
    accuracy: float | None
    error: float | None
    """The squared error, where images have numbers."""
    mean: bool = False
    """Whether it is a mean over subnets."""
    exported: bool = False
    """Whether it is the refitted winner."""
    baseline: str | None = None
    """The name of the baseline that it is."""


def method_rows(report: Report) -> list[MethodRow]:
    """Baselines, random subnets, the winner with inherited weights and, if there was a refit, as it is exported."""
    rows = [
        MethodRow(
            label=name if name == one.space else f"{name}: {one.space} at {one.lr:g}",
            parameters=one.parameters,
            trained_on=one.trained_on,
            accuracy=one.test_accuracy,
            error=one.test_error,
            baseline=name,
        )
        for name, one in report.baselines.items()
    ]
    random = report.random_subnets
    if random is not None:
        rows.append(
            MethodRow(
                label=f"{random.count} random subnets (mean)",
                parameters=random.mean_parameters,
                trained_on="train",
                accuracy=random.mean_test_accuracy,
                error=random.mean_test_error,
                mean=True,
            )
        )
    winner, method = report.winner, space_label(report.space)
    rows.append(
        MethodRow(
            label=method if report.fixed_method else _searched(report),
            parameters=report.best_searched.parameters,
            trained_on="train",
            accuracy=winner.test_accuracy_inherited,
            error=winner.test_error_inherited,
        )
    )
    if report.refit.steps:
        taught = ", taught" if report.refit.taught else ", refitted"
        rows.append(
            MethodRow(
                label=f"{method if report.fixed_method else _winner(report)}{taught}",
                parameters=winner.parameters,
                trained_on="train + search",
                accuracy=winner.test_accuracy,
                error=winner.test_error,
                exported=True,
            )
        )
    return rows


def _winner(report: Report) -> str:
    """The winner, by its name if it won a race."""
    if report.point is not None:
        return report.winner.name
    return "winner" if report.race is None else f"winner, {report.race.winner.label}"


def _searched(report: Report) -> str:
    if report.point is not None:
        return f"{report.winner.name}, inherited weights"
    return "winner, inherited weights" if report.race is None else "best of the search, inherited weights"
