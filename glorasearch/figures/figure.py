"""A figure: a Vega-Lite specification, and what it says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

Spec = dict[str, Any]
Data = list[dict[str, Any]]

WIDTH: Final = 560
"""Of a figure, px; a page scales it down."""
POINTS: Final = 400
"""Of a line, at most."""
DARK: Final = 0.435
"""Share up to which a cell is so dark that white is read on it, and black above: 4.5 to 1 on every cell."""


@dataclass(frozen=True, slots=True)
class Figure:
    """Something to draw."""

    key: str
    """Its name, of lower-case letters and `-`."""
    title: str
    caption: str
    """What is drawn, in sentences, with the test that a band is of."""
    spec: Spec
    """Vega-Lite, with its data, without colours of a theme."""

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {"key": self.key, "title": self.title, "caption": self.caption, "spec": self.spec}


def spec(values: Iterable[dict[str, Any]], **parts: Any) -> Spec:
    """A specification over rows of data."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "data": {"values": list(values)},
        **parts,
    }


def axis(field: str, title: str | None, kind: str = "quantitative", **more: Any) -> dict[str, Any]:
    """A channel; numbers are not drawn from 0 unless they are asked to be."""
    scale = {"scale": {"zero": False}} if kind == "quantitative" and "scale" not in more else {}
    return {"field": field, "type": kind, "title": title, **scale, **more}


def thinned(points: Sequence[dict[str, Any]]) -> Data:
    """At most `POINTS` of a line, the first and the last among them."""
    if len(points) <= POINTS:
        return list(points)
    step = (len(points) - 1) / (POINTS - 1)
    return [points[round(index * step)] for index in range(POINTS)]


def finite(value: float | None) -> bool:
    """Whether a number can be drawn."""
    return value is not None and math.isfinite(value)
