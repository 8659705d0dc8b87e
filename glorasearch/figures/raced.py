"""The race: every candidate out of fold, and inherited against stand-alone scores."""

from __future__ import annotations

from typing import Any

from glorasearch.db import RaceMember
from glorasearch.figures.facts import RunFacts
from glorasearch.figures.figure import WIDTH, Data, Figure, axis, spec
from glorasearch.runs.results import RaceCandidate, RaceResult
from glorasearch.space import fitness_name
from glorasearch.statistics.intervals import wilson
from glorasearch.tasks.kinds import words_of

_ERROR = "squared error out of fold"
_ERRORS = (
    "Squared error out of fold of every candidate, each trained alone, the mean over the folds that it was judged on, "
    "in squared standard deviations of the targets: 1 is what always saying their mean has. The least is"
)
_KINDS = {"searched": "found by the search", "named": "named point", "method": "fixed method"}


def race(facts: RunFacts) -> Figure | None:
    """Accuracy out of fold of every candidate, with its interval."""
    found = facts.results.readable(RaceResult)
    if found is None:
        return _under_way(facts)
    rows = [_row(one) for one in found.candidates if not one.last.diverged]
    if not rows:
        return None
    if _of_numbers(facts):
        return _ranking(rows, f"{_ERRORS} on top.", _ERROR)
    return _ranking(
        rows,
        "Accuracy out of fold of every candidate, each trained alone, over the folds that it was judged on, the "
        "winner on top; "
        f"the race is judged by {fitness_name(found.judge)}. Lines: 95 % intervals (Wilson) of the sampling of "
        "images, of no seed.",
    )


def inherited(facts: RunFacts) -> Figure | None:
    """Stand-alone accuracy against that with the supernet's weights."""
    found = facts.results.readable(RaceResult)
    if found is None:
        return None
    known = {trial.subnet: trial for trial in facts.evaluated}
    numbers = _of_numbers(facts)
    values = [
        _row(one) | {"inherited": trial.fitness if numbers else trial.accuracy, "trial": trial.number}
        for one in found.candidates
        if one.own_space and one.digest in known and not one.last.diverged
        for trial in [known[one.digest]]
    ]
    if not values:
        return None
    ends = [float(row[name]) for row in values for name in ("inherited", "score")]
    low, high = max(0.0, min(ends) - 0.02), max(ends) + 0.02
    high, what, form = (high, "squared error", ".3~g") if numbers else (min(1.0, high), "accuracy", "~%")
    hover = ".3f" if numbers else ".1%"
    scale = {"domain": [low, high], "nice": False, "zero": False}
    line = {
        "data": {"values": [{"x": low, "y": low}, {"x": high, "y": high}]},
        "mark": {"type": "line", "strokeDash": [4, 4], "opacity": 0.6, "clip": True},
        "encoding": {
            "x": axis("x", f"{what} with inherited weights, search split", scale=scale),
            "y": axis("y", f"{what} trained alone, out of fold", scale=scale),
        },
    }
    points = {
        "mark": {"type": "point", "filled": True, "size": 90, "opacity": 0.9},
        "encoding": {
            "x": axis("inherited", f"{what} with inherited weights, search split", scale=scale,
                axis={"format": form, "tickCount": 6}),
            "y": axis("score", f"{what} trained alone, out of fold", scale=scale, axis={"format": form,
                "tickCount": 6}),
            "color": {"field": "rate", "type": "nominal", "title": "learning rate"},
            "shape": {"field": "rate", "type": "nominal", "title": "learning rate"},
            "tooltip": [{"field": "candidate"}, {"field": "trial"}, {"field": "inherited", "format": hover},
                        {"field": "score", "title": "alone", "format": hover}, {"field": "folds"}],
        },
    }  # fmt: skip
    left = sum(one.own_space for one in found.candidates) - len(values)
    return Figure(
        "inherited",
        "Inherited against stand-alone",
        "Candidates of the run's own space, with the supernet's weights and trained alone; different images "
        "judge, so that the "
        "dashed line, on which both agree, is a guide only."
        + (f" {left} that were stopped early in the search, or were no trial of it, are left out." if left else ""),
        spec(values, width=360, height=300, layer=[line, points]),
    )


def _of_numbers(facts: RunFacts) -> bool:
    """Whether nothing is right or wrong, so that errors rank."""
    return not words_of(facts.task).right_or_wrong


def _under_way(facts: RunFacts) -> Figure | None:
    """The candidates so far, by their trainings in the database."""
    numbers = _of_numbers(facts)
    of_label: dict[str, list[RaceMember]] = {}
    for member in facts.members:
        of_label.setdefault(member.label, []).append(member)
    rows: Data = []
    for label, members in of_label.items():
        correct, images = sum(one.correct for one in members), sum(one.images for one in members)
        row = {"candidate": label, "kind": "candidate", "folds": len(members)}
        if not images or (numbers and any(one.nats is None for one in members)):
            continue
        if numbers:
            rows.append(row | {"score": sum(one.nats[0] for one in members if one.nats) / images})
        else:
            low, high = wilson(correct, images)
            rows.append(row | {"score": correct / images, "low": low, "high": high})
    rows.sort(key=lambda row: row["score"] if numbers else -row["score"])
    if numbers:
        return _ranking(rows, f"{_ERRORS} on top so far; the race is not over.", _ERROR) if rows else None
    text = (
        "Accuracy out of fold of the candidates so far, over the folds that they were judged on; the race is not over."
    )
    return _ranking(rows, f"{text} Lines: 95 % intervals (Wilson).") if rows else None


def _ranking(rows: Data, caption: str, title: str = "accuracy out of fold") -> Figure:
    """Of accuracies with their intervals, or of errors, which have none."""
    shares = title != _ERROR
    down = axis("candidate", None, "nominal", sort=[row["candidate"] for row in rows], axis={"labelLimit": 220})
    form, named = (".1%", "accuracy") if shares else (".3f", "squared error")
    hover = [{"field": "candidate"}, {"field": "kind"}, {"field": "score", "title": named, "format": form},
             *({"field": end, "format": form} for end in (("low", "high") if shares else ())),
             {"field": "folds"}]  # fmt: skip
    ticks = {"format": "~%" if shares else ".3~g", "tickCount": 6}
    interval: Data = [
        {
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {"x": axis("low", title, axis=ticks), "x2": {"field": "high"}, "tooltip": hover},
        }
    ]
    layers = [
        *(interval if shares else []),
        {"mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
         "encoding": {"x": axis("score", title, axis=ticks), "tooltip": hover,
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
    last = one.last
    rate = "as set" if one.rate is None else f"{one.rate:g}"
    row = {"candidate": one.label, "kind": _KINDS[one.kind], "folds": last.folds, "rate": rate}
    if last.accuracy is None:
        return row | {"score": last.judged}
    low, high = wilson(round(last.accuracy * last.images), last.images)
    return row | {"score": last.accuracy, "low": low, "high": high}
