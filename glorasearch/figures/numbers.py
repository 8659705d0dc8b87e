"""The test split of numbers: what is said against what is so, and what is left over."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any, Final

from glorasearch.figures.facts import RunFacts
from glorasearch.figures.figure import POINTS, Data, Figure, axis, finite, spec, thinned
from glorasearch.figures.predicted import true_and_said
from glorasearch.quantities import three_digits

MOST: Final = 6
"""Targets that are drawn: the first ones."""
_SIDE: Final = 230
"""Of a target's drawing, px."""


def predicted(facts: RunFacts) -> Figure | None:
    """What is said of each test image against the number that it has."""
    return _scattered(
        facts, "predicted", "Predicted against true values", ("true", "true value"), ("said", "predicted value"),
        "On the dashed line they are equal. A model that knows nothing always says the mean of the training images.",
    )  # fmt: skip


def residuals(facts: RunFacts) -> Figure | None:
    """The error of each test image against what is said of it."""
    return _scattered(
        facts, "residuals", "Residuals", ("said", "predicted value"), ("residual", "predicted - true"),
        "Above the dashed line too much is said, below it too little; a slope or a fan says where the model is wrong.",
    )  # fmt: skip


def _scattered(
    facts: RunFacts, key: str, title: str, across: tuple[str, str], up: tuple[str, str], meaning: str
) -> Figure | None:
    found, tested = true_and_said(facts), facts.tested
    if not found or tested is None:
        return None
    of_target = {one.name: one for one in tested.by_target}
    drawn = list(found)[:MOST]
    parts = []
    for name in drawn:
        rows = [
            {"image": PurePath(file).name, "true": true, "said": said, "residual": said - true}
            for file, true, said in found[name]
            if finite(true) and finite(said)
        ]
        one = of_target[name]
        numbers = [
            f"R\u00b2 {one.r2:.3f}" if one.r2 is not None else "",
            f"RMSE {three_digits(one.rmse)}" if one.rmse else "",
        ]
        parts.append(_part(name, ", ".join(filter(None, numbers)), thinned(rows), across, up))
    images = tested.splits.test.images
    shown = f", {POINTS} of them drawn" if images > POINTS else ""
    others = f" The first {MOST} of {len(found)} targets." if len(found) > MOST else ""
    return Figure(
        key,
        title,
        f"The refitted winner on {images:,} test images{shown}, in each target's own unit. {meaning}{others}",
        {"$schema": spec([])["$schema"], "concat": parts, "columns": 2},
    )


def _part(name: str, numbers: str, rows: Data, across: tuple[str, str], up: tuple[str, str]) -> dict[str, Any]:
    ends = [float(row[field]) for row in rows for field in ("true", "said")] or [0.0]
    low, high = min(ends), max(ends)
    if up[0] == "residual":
        line = [{"x": min((row["said"] for row in rows), default=0.0), "y": 0.0},
                {"x": max((row["said"] for row in rows), default=1.0), "y": 0.0}]  # fmt: skip
        scale: dict[str, Any] = {}
    else:
        line, scale = [{"x": low, "y": low}, {"x": high, "y": high}], {"scale": {"domain": [low, high], "zero": False}}
    ticks: dict[str, Any] = {"axis": {"tickCount": 5}}
    hover = [
        {"field": "image"},
        *(
            {"field": field, "title": title, "format": ".4~g"}
            for field, title in (("true", "true"), ("said", "predicted"), ("residual", "predicted - true"))
        ),
    ]
    return {
        "title": {"text": name, "subtitle": numbers, "anchor": "start"},
        "width": _SIDE,
        "height": _SIDE,
        "layer": [
            {
                "data": {"values": line},
                "mark": {"type": "line", "strokeDash": [4, 4], "opacity": 0.7},
                "encoding": {"x": axis("x", across[1], **scale, **ticks), "y": axis("y", up[1], **scale, **ticks)},
            },
            {
                "data": {"values": rows},
                "mark": {"type": "point", "filled": True, "opacity": 0.55, "size": 30},
                "encoding": {
                    "x": axis(across[0], across[1], **scale, **ticks),
                    "y": axis(up[0], up[1], **scale, **ticks),
                    "tooltip": hover,
                },
            },
        ],
    }
