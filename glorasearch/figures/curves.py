"""Losses and learning rates of every training of a run."""

from __future__ import annotations

from glorasearch.figures.facts import RunFacts
from glorasearch.figures.figure import Data, Figure, axis, finite, spec, thinned
from glorasearch.tasks.kinds import words_of


def losses(facts: RunFacts) -> Figure | None:
    """The loss of each training."""
    unit = "nats" if words_of(facts.task).right_or_wrong else "squared error"
    train = facts.record.config.get("train")
    if isinstance(train, dict) and train.get("huber_delta"):
        unit = "Huber's loss"
    return _curves(
        facts, "loss", "losses", "Loss of every training", unit,
        "Mean training loss since the point before, each stage on scales of its own.",
    )  # fmt: skip


def rates(facts: RunFacts) -> Figure | None:
    """The learning rate of each training."""
    return _curves(
        facts, "lr", "rates", "Learning rate of every training", "learning rate",
        "Learning rate of the low-rank factors at each recorded step.",
    )  # fmt: skip


def _curves(facts: RunFacts, number: str, key: str, title: str, unit: str, caption: str) -> Figure | None:
    of_stage: dict[str, Data] = {}
    for row in facts.rows:
        if number in row.values and finite(row.values[number]):
            point = {"stage": row.stage, "step": row.step, "value": row.values[number]}
            of_stage.setdefault(row.stage, []).append(point)
    if not of_stage:
        return None
    values = [point for points in of_stage.values() for point in thinned(points)]
    return Figure(key, title, caption, spec(
        values,
        facet={"field": "stage", "type": "nominal", "title": None, "sort": list(of_stage)},
        columns=2,
        spec={
            "width": 200, "height": 130,
            "mark": {"type": "line", "point": {"size": 18}},
            "encoding": {
                "x": axis("step", "step", axis={"tickCount": 5}),
                "y": axis("value", unit, scale={"zero": True}, axis={"format": "~g", "tickCount": 5}),
                "tooltip": [{"field": "stage"}, {"field": "step"}, {"field": "value", "format": ".3", "title": unit}],
            },
        },
        resolve={"scale": {"x": "independent", "y": "independent"}},
    ))  # fmt: skip
