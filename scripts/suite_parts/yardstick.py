"""The yardstick: what a careful engineer would do without a search.

Every shipped fixed method that fits backbone and budget is trained alone at each rate on the training split; the best
by accuracy on the search split (its tempered score breaks ties) is trained again on train + search, and tested. All
are trained side by side as the product trains its finalists, which saves time; `alone.py` says what they cost one by
one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from glorasearch.data import TrainSplit
from glorasearch.errors import SearchSpaceError
from glorasearch.evaluation import tempered_of
from glorasearch.race import member_seed
from glorasearch.space import BoundSpace, SearchSpace, shipped_names
from glorasearch.stacked import Member
from glorasearch.training import TrainingConfig
from suite_parts.lab import Lab, Scored, correct_images
from suite_parts.units import Content, Unit

RECORD_EVERY = 100


@dataclass(frozen=True)
class Point:
    """A fixed method at a rate."""

    name: str
    space: BoundSpace
    source: SearchSpace
    rate: float

    @property
    def key(self) -> str:
        """For its seed."""
        return f"{self.name} {self.rate!r}"

    def member(self, steps: int, seed: int, images: int) -> Member:
        """Its training, by the recipe of the method."""
        config = TrainingConfig(
            steps=steps, lr=self.rate, seed=seed, record_every=RECORD_EVERY, checkpoint_every=max(1, steps // 5)
        )
        return Member(
            space=self.space,
            subnet=self.space.largest(),
            config=self.source.recipe.apply(config),
            images=torch.arange(images),
        )


def points_of(lab: Lab) -> list[Point]:
    """Every shipped fixed method that fits the backbone and the budget, at every rate."""
    limit = lab.limit(lab.settings.budget)
    found = []
    for name in lab.settings.methods or shipped_names():
        space = SearchSpace.load(name)
        try:
            bound = lab.bind(space)
        except SearchSpaceError:
            continue
        if bound.size() == 1 and bound.parameters(bound.largest()) <= limit:
            found += [Point(name, bound, space, rate) for rate in lab.settings.rates]
    return found


def yardstick(lab: Lab, unit: Unit) -> Content:
    """What the arm `yardstick` finds."""
    points, splits, steps = points_of(lab), lab.splits(unit), lab.settings.steps
    members = [point.member(steps, member_seed(unit.seed, point.key, "grid"), len(splits.train)) for point in points]
    grid = lab.train(unit, "grid", members, splits.train, search=True, test=True)
    rows = [_row(point, grid, number, splits) for number, point in enumerate(points)]
    best = min(range(len(rows)), key=lambda n: (-rows[n]["search_accuracy"], rows[n]["search_tempered"]))
    tempered = min(range(len(rows)), key=lambda n: rows[n]["search_tempered"])
    loras = [n for n, point in enumerate(points) if point.name == "lora"]
    lora4 = min(loras, key=lambda n: (-rows[n]["search_accuracy"], rows[n]["search_tempered"]))
    everything = splits.train_and_search()
    chosen = _again(lab, unit, "best", [points[best]], everything)
    others = [n for n in dict.fromkeys((tempered, lora4)) if n != best]
    more = _again(lab, unit, "others", [points[n] for n in others], everything) if others else None

    def tested(number: int) -> dict[str, Any]:
        scored, place = (chosen, 0) if number == best or more is None else (more, others.index(number))
        correct = correct_images(scored.test[place], splits.test.labels)
        accuracy = correct.count("1") / len(correct)
        return {key: rows[number][key] for key in ("method", "rate", "parameters")} | {
            "test_accuracy": accuracy,
            "correct": correct,
        }

    return tested(best) | {
        "pick": {"name": points[best].name, "kind": "method", "rate": points[best].rate},
        "steps": steps,
        "model_steps": steps * (len(points) + 1),
        "seconds": {
            "training": grid.seconds + chosen.seconds,
            "evaluation": grid.other_seconds + chosen.other_seconds,
        },
        "grid": rows,
        "tempered_pick": tested(tempered),
        "lora4": tested(lora4),
    }


def _row(point: Point, grid: Scored, number: int, splits: Any) -> dict[str, Any]:
    logits = torch.from_numpy(grid.search[number])
    score, beta = tempered_of(logits, splits.search.labels)
    accuracy = float((logits.argmax(-1) == splits.search.labels).double().mean())
    test = correct_images(grid.test[number], splits.test.labels)
    return {
        "method": point.name,
        "rate": point.rate,
        "parameters": point.space.parameters(point.space.largest()),
        "search_accuracy": accuracy,
        "search_tempered": score,
        "beta": beta,
        "test_accuracy_on_train": test.count("1") / len(test),
    }


def _again(lab: Lab, unit: Unit, part: str, points: Sequence[Point], split: TrainSplit) -> Scored:
    """Points trained on train + search."""
    seeds = [member_seed(unit.seed, point.key, "final") for point in points]
    members = [point.member(lab.settings.steps, seed, len(split)) for point, seed in zip(points, seeds, strict=True)]
    return lab.train(unit, part, members, split, search=False, test=True)
