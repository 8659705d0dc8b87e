"""What a run cost: seconds by stage, and how many evaluations were at work."""

from __future__ import annotations

from typing import Final

from glorasearch.figures.facts import RunFacts
from glorasearch.figures.figure import WIDTH, Figure, axis, spec
from glorasearch.quantities import took
from glorasearch.runs.spent import is_part, taken_over

_BINS: Final = 30


def cost(facts: RunFacts) -> Figure | None:
    """Seconds of each stage."""
    seconds: dict[str, float] = {}
    others = taken_over(facts.record, facts.origins[-1] if facts.origins else None)
    for stage in facts.watched.stages:
        result = facts.record.stages.get(stage.stage, {})
        own = result["seconds"] if isinstance(result.get("seconds"), (int, float)) else stage.seconds
        own += (result.get("teachers") or {}).get("seconds", 0.0)  # of a refit, beside its own
        if own > 0 and stage.stage not in others and not is_part(stage.stage):
            seconds[stage.stage] = float(own)
    total = sum(seconds.values())
    if not total:
        return None
    values = [
        {"stage": stage, "seconds": own, "share": own / total, "text": took(own)} for stage, own in seconds.items()
    ]
    down = axis("stage", None, "nominal", sort=list(seconds))
    room = [0, 1.3 * max(seconds.values())]  # for the text beside the longest bar
    across = axis("seconds", "seconds", scale={"domain": room, "nice": False}, axis={"tickCount": 6})
    hover = [{"field": "stage"}, {"field": "text", "title": "time"}, {"field": "share", "format": ".1%"}]
    layers = [
        {"mark": {"type": "bar", "height": 14}, "encoding": {"x": across, "tooltip": hover}},
        {"mark": {"type": "text", "align": "left", "dx": 4}, "encoding": {"x": across, "text": {"field": "text"}}},
    ]
    return Figure(
        "cost",
        "What it cost",
        f"Wall-clock time of each stage, {took(total)} together; of a race the sum over its trainings, which "
        "share the time of "
        "those beside them. Stages that recorded no time, or whose result was taken over, are left out.",
        spec(values, width=WIDTH - 130, height={"step": 24}, encoding={"y": down}, layer=layers),
    )


def busy(facts: RunFacts) -> Figure | None:
    """How many evaluations were at work at once, over the time of the search."""
    spans = [
        (trial.finished.timestamp() - trial.seconds, trial.finished.timestamp())
        for trial in facts.trials
        if trial.finished is not None and trial.seconds > 0
    ]
    if len(spans) < 2:
        return None
    first, last = min(start for start, _ in spans), max(end for _, end in spans)
    width = (last - first) / _BINS
    if width <= 0:
        return None
    values = []
    for number in range(_BINS):
        left = first + number * width
        inside = sum(max(0.0, min(end, left + width) - max(start, left)) for start, end in spans)
        values.append({"from": number * width, "to": (number + 1) * width, "busy": inside / width})
    mean = sum(end - start for start, end in spans) / (last - first)
    bar = {
        "mark": {"type": "bar", "binSpacing": 1},
        "encoding": {
            "x": axis("from", "seconds since the first evaluation", bin="binned", scale={"zero": True}),
            "x2": {"field": "to"},
            "y": axis("busy", "evaluations at once", scale={"zero": True}),
            "tooltip": [{"field": name, "format": ".3"} for name in ("from", "to", "busy")],
        },
    }
    return Figure(
        "busy",
        "Evaluations at work",
        f"Mean number of evaluations at work at once: {mean:.3g} over the whole search, so that {mean:.0%} of one "
        "worker's time went "
        "into them. Each is taken to have ended when it was recorded; the rest is sampling, recording and waiting.",
        spec(values, width=WIDTH, height=170, **bar),
    )
