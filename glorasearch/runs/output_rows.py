"""Test images output by output, in words: of each target its errors, of each label how well it is told."""

from __future__ import annotations

from glorasearch.quantities import MISSING, percent, three_digits
from glorasearch.runs.metric_rows import LABELS, number
from glorasearch.runs.results import ClassTest, Report, TestResult


def output_rows(found: Report | TestResult) -> list[tuple[str, ...]]:
    """A heading, and a row for each target or label; empty of classes, which are in the confusion matrix."""
    if found.by_target:
        deviations = {one.name: one.std for one in found.splits.standards}
        heading: tuple[str, ...] = (
            "target",
            LABELS["r2"],
            LABELS["mae"],
            LABELS["rmse"],
            "deviation in training",
        )
        return [
            heading,
            *(
                (
                    one.name,
                    *(
                        MISSING if value is None else number(name, value)
                        for name, value in (("r2", one.r2), ("mae", one.mae), ("rmse", one.rmse))
                    ),
                    three_digits(deviations[one.name]) if one.name in deviations else MISSING,
                )
                for one in found.by_target
            ),
        ]
    if found.splits.task != "multilabel" or not found.by_class:
        return []
    heading = ("label", "images with it", "recall", "precision", "F1", "AUC", "average precision")
    return [heading, *(_label(one) for one in found.by_class)]


def _label(one: ClassTest) -> tuple[str, ...]:
    said = one.predicted or 0
    return (
        one.name,
        f"{one.images:,}",
        percent(one.correct / one.images),
        percent(one.correct / said if said else None),
        f"{2 * one.correct / (one.images + said):.3f}",
        MISSING if one.auc is None else f"{one.auc:.3f}",
        MISSING if one.average_precision is None else f"{one.average_precision:.3f}",
    )
