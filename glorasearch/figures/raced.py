"""The race: every candidate out of fold, and inherited against stand-alone scores."""

from __future__ import annotations

from typing import Any

from glorasearch.figures.facts import RunFacts
from glorasearch.figures.figure import WIDTH, Data, Figure, axis, spec
from glorasearch.runs.results import RaceCandidate, RaceResult
from glorasearch.statistics.intervals import wilson

_KINDS = {"searched": "found by the search", "named": "named point", "method": "fixed method"}


def race(facts: RunFacts) -> Figure | None:
    """Accuracy out of fold of every candidate, with its interval."""
    found = facts.results.readable(RaceResult)
    if found is None:
        return _under_way(facts)
    if all(one.last.accuracy is None for one in found.candidates):
        return None
    rows = [_row(one) for one in found.candidates]
    return _ranking(
        rows,
        "Accuracy out of fold of every candidate, each trained alone, over the folds that it was judged on, the "
        "winner on top; "
        f"the race is judged by {found.judge}. Lines: 95 % intervals (Wilson) of the sampling of images, of no seed.",
    )


def inherited(facts: RunFacts) -> Figure | None:
    """Stand-alone accuracy against that with the supernet's weights."""
    found = facts.results.readable(RaceResult)
    if found is None:
        return None
    known = {trial.subnet: trial for trial in facts.evaluated}
    values = [
        _row(one) | {"inherited": known[one.digest].accuracy, "trial": known[one.digest].number}
        for one in found.candidates
        if one.own_space and one.digest in known and one.last.accuracy is not None
    ]
    if not values:
        return None
    ends = [float(row[name]) for row in values for name in ("inherited", "accuracy")]
    low, high = max(0.0, min(ends) - 0.02), min(1.0, max(ends) + 0.02)
    scale = {"domain": [low, high], "nice": False, "zero": False}
    line = {
        "data": {"values": [{"x": low, "y": low}, {"x": high, "y": high}]},
        "mark": {"type": "line", "strokeDash": [4, 4], "opacity": 0.6, "clip": True},
        "encoding": {
            "x": axis("x", "accuracy with inherited weights, search split", scale=scale),
            "y": axis("y", "accuracy trained alone, out of fold", scale=scale),
        },
    }
    points = {
        "mark": {"type": "point", "filled": True, "size": 90, "opacity": 0.9},
        "encoding": {
            "x": axis("inherited", "accuracy with inherited weights, search split", scale=scale,
                axis={"format": ".0%", "tickCount": 6}),
            "y": axis("accuracy", "accuracy trained alone, out of fold", scale=scale, axis={"format": ".0%",
                "tickCount": 6}),
            "color": {"field": "rate", "type": "nominal", "title": "learning rate"},
            "shape": {"field": "rate", "type": "nominal", "title": "learning rate"},
            "tooltip": [{"field": "candidate"}, {"field": "trial"}, {"field": "inherited", "format": ".1%"},
                        {"field": "accuracy", "title": "alone", "format": ".1%"}, {"field": "folds"}],
        },
    }  # fmt: skip
    left = sum(one.own_space for one in found.candidates) - len(values)
    return Figure(
        "inherited",
        "Inherited against stand-alone",
        "Candidates of the run's own space, with the supernet's weights and trained alone; different images "
        "judge, so that the "
        "dashed line, on which both agree, is a guide only."
        + (f" {left} whose evaluation was stopped early are left out." if left else ""),
        spec(values, width=360, height=300, layer=[line, points]),
    )


def _under_way(facts: RunFacts) -> Figure | None:
    """The candidates so far, by their trainings in the database; none of numbers, which have no accuracy."""
    if any(member.nats is not None and len(member.nats) == 1 for member in facts.members):
        return None
    of_label: dict[str, list[int]] = {}
    for member in facts.members:
        sums = of_label.setdefault(member.label, [0, 0, 0])
        sums[0], sums[1], sums[2] = sums[0] + member.correct, sums[1] + member.images, sums[2] + 1
    rows: Data = []
    for label, (correct, images, folds) in of_label.items():
        if images:
            low, high = wilson(correct, images)
            rows.append({"candidate": label, "kind": "candidate", "accuracy": correct / images, "low": low,
                "high": high, "folds": folds})  # fmt: skip
    rows.sort(key=lambda row: -row["accuracy"])
    text = (
        "Accuracy out of fold of the candidates so far, over the folds that they were judged on; the race is not over."
    )
    return _ranking(rows, f"{text} Lines: 95 % intervals (Wilson).") if rows else None


def _ranking(rows: Data, caption: str) -> Figure:
    down = axis("candidate", None, "nominal", sort=[row["candidate"] for row in rows], axis={"labelLimit": 220})
    hover = [{"field": "candidate"}, {"field": "kind"}, *({"field": name, "format": ".1%"} for name in ("accuracy",
        "low", "high")),
             {"field": "folds"}]  # fmt: skip
    ticks = {"format": ".0%", "tickCount": 6}
    title = "accuracy out of fold"
    layers = [
        {"mark": {"type": "rule", "strokeWidth": 2},
         "encoding": {"x": axis("low", title, axis=ticks), "x2": {"field": "high"}, "tooltip": hover}},
        {"mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
         "encoding": {"x": axis("accuracy", title, axis=ticks), "tooltip": hover,
                      "shape": {"field": "kind", "type": "nominal", "title": None, "legend": {"orient": "top"}},
                      "color": {"field": "kind", "type": "nominal", "title": None, "legend": {"orient": "top"}}}},
    ]  # fmt: skip
    return Figure(
        "race",
        "The race",
        caption,
        spec(rows, width=WIDTH - 160, height={"step": 22}, encoding={"y": down}, layer=layers),
    )


def _row(one: RaceCandidate) -> dict[str, Any]:
    last, share = one.last, one.last.accuracy or 0.0
    low, high = wilson(round(share * last.images), last.images)
    rate = "as set" if one.rate is None else f"{one.rate:g}"
    return {"candidate": one.label, "kind": _KINDS[one.kind], "accuracy": share, "low": low, "high": high,
            "folds": last.folds, "rate": rate}  # fmt: skip
