"""Pairs of models and of methods as the cells of a table."""

from __future__ import annotations

from collections.abc import Sequence

from glorasearch.quantities import MISSING
from glorasearch.runs.pairs import PairedMethods, PairedModels
from glorasearch.runs.statements import p_text, points
from glorasearch.statistics import LEVEL, PairedErrors


def pair_cells(rows: Sequence[PairedModels] | Sequence[PairedMethods]) -> tuple[list[str], int, list[list[str]]]:
    """The heads, the number of text columns, and the cells."""
    models = [row for row in rows if isinstance(row, PairedModels)]
    if models:
        alone = [] if all(isinstance(row.images, PairedErrors) for row in models) else ["right alone", "against alone"]
        heads = ["run", "against", "points" if alone else "MSE", "95 %", *alone, "McNemar" if alone else "p", "says"]
        return heads, 2, [_models(row) for row in models]
    heads = ["method", "against", "pairs", "points", "95 %", "better", "worse", "says"]
    return heads, 2, [_methods(row) for row in rows if isinstance(row, PairedMethods)]


def _models(row: PairedModels) -> list[str]:
    images = row.images
    if isinstance(images, PairedErrors):
        low, high = images.interval
        says = _says(row.verdict, row.p_adjusted, images.p)
        return [row.run, row.against, f"{images.difference:+.3f}", f"{low:+.3f} to {high:+.3f}", p_text(images.p), says]
    return [
        row.run,
        row.against,
        points(images.difference),
        _interval(images.interval),
        str(images.only_first),
        str(images.only_second),
        p_text(images.p),
        _says(row.verdict, row.p_adjusted, images.p),
    ]


def _methods(row: PairedMethods) -> list[str]:
    found = row.differences
    if row.verdict == "worse":
        says = _says(row.verdict, row.p_worse, found.p_worse)
    elif found.least_p >= LEVEL:
        says = f"too few pairs to tell (at best {p_text(found.least_p)})"
    else:
        says = _says(row.verdict, row.p_better, found.p_better)
    return [
        row.method,
        row.against,
        str(found.pairs),
        points(found.mean, 2),
        MISSING if found.interval is None else _interval(found.interval, 2),
        p_text(found.p_better),
        p_text(found.p_worse),
        says,
    ]


def _interval(interval: tuple[float, float], digits: int = 1) -> str:
    return f"{points(interval[0], digits)} to {points(interval[1], digits)}"


def _says(verdict: str, adjusted: float, p: float) -> str:
    """The verdict, with the p that it goes by if that is not the one beside it."""
    words = "no difference can be told" if verdict == "no difference" else verdict
    return words if adjusted == p else f"{words} ({p_text(adjusted)} after Holm)"
