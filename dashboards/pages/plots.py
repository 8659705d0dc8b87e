"""Small drawings in SVG that need no script: sparklines and lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from dashboards.pages.numbers import number

WIDTH: Final = 420.0
HEIGHT: Final = 210.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 10.0, 10.0, 30.0
MOST: Final = 300
"""Points that a line keeps."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis, and its label."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line with its name."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Plot:
    """What the template draws; coordinates are those of the drawing."""

    title: str
    x_name: str
    y_name: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    said: str
    """What a reader who does not see it is told."""


def plot(title: str, x_name: str, y_name: str, lines: Sequence[tuple[str, Points]]) -> Plot | None:
    """Lines on common axes; None if there is nothing finite to draw."""
    kept = [(name, thinned(_finite(points))) for name, points in lines]
    kept = [(name, points) for name, points in kept if points]
    everything = [point for _, points in kept for point in points]
    if not everything:
        return None
    x_low, x_high = _range([x for x, _ in everything])
    y_low, y_high = _range([y for _, y in everything])

    def across(x: float) -> float:
        return round(LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT), 1)

    def down(y: float) -> float:
        return round(HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM), 1)

    said = "; ".join(f"{name} from {number(points[0][1])} to {number(points[-1][1])}" for name, points in kept)
    return Plot(
        title,
        x_name,
        y_name,
        _labelled(ticks(x_low, x_high), across),
        _labelled(ticks(y_low, y_high), down),
        tuple(Line(name, _path([(across(x), down(y)) for x, y in points])) for name, points in kept),
        said,
    )


def _labelled(values: Sequence[float], place: Callable[[float], float]) -> tuple[Tick, ...]:
    """Ticks with three digits, or as many as tell them apart."""
    texts = [number(value) for value in values]
    if len(set(texts)) < len(texts):
        texts = [f"{value:.6g}" for value in values]
    return tuple(Tick(place(value), text) for value, text in zip(values, texts, strict=True))


def sparkline(values: Sequence[float], width: float = 96, height: float = 22) -> str:
    """The path of a line without axes; empty below two points."""
    points = thinned(_finite(list(enumerate(map(float, values)))), 60)
    if len(points) < 2:
        return ""
    low, high = _range([y for _, y in points])
    last = points[-1][0] or 1.0
    return _path(
        [(round(1 + x / last * (width - 2), 1), round(height - 2 - (y - low) / (high - low) * (height - 4), 1))
         for x, y in points]
    )  # fmt: skip


def thinned(points: Points, most: int = MOST) -> list[tuple[float, float]]:
    """Every so many of the points, and the last."""
    every = -(-len(points) // most) or 1
    kept = list(points[::every])
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers between two others."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * 0.04 or abs(high) * 0.05 or 1.0
    return low - room, high + room


def _finite(points: Points) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _path(points: Points) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
