"""What trainings one by one cost, from two lengths of each."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from suite_parts import alone as module
from suite_parts.lab import Scored
from suite_parts.units import Unit

STARTS, STEP = {"lora": 2.0, "ssf": 4.0}, {"lora": 0.01, "ssf": 0.03}


class Clocked:
    """A laboratory in which a training takes a start and so much a step."""

    settings = SimpleNamespace(steps=1_000, rates=(1e-3, 1e-2))

    def __init__(self) -> None:
        self.trained: list[tuple[str, int]] = []

    def splits(self, unit: Unit) -> Any:
        return SimpleNamespace(train=range(10))

    def train(self, unit: Unit, part: str, members: list[Any], split: Any, *, search: bool, test: bool) -> Scored:
        ((name, steps),) = members
        self.trained.append((name, steps))
        return Scored(None, None, STARTS[name] + STEP[name] * steps, 1.0)  # type: ignore[arg-type]


def points(_: Any) -> Iterator[Any]:
    for name in STARTS:
        for rate in (1e-3, 1e-2):
            yield SimpleNamespace(name=name, rate=rate, member=lambda steps, seed, images, name=name: (name, steps))


def test_seconds_of_all_trainings_follow_from_two_short_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "points_of", points)
    lab = Clocked()
    found = module.alone(lab, Unit("a", 0, "yardstick_alone"))  # type: ignore[arg-type]
    assert lab.trained == [("lora", 100), ("lora", 300), ("ssf", 100), ("ssf", 300)]
    whole = {"lora": 2 + 10.0, "ssf": 4 + 30.0}
    assert {name: one["training"] for name, one in found["methods"].items()} == pytest.approx(whole)
    assert found["seconds"]["training"] == pytest.approx(2 * sum(whole.values()) + sum(whole.values()) / 2)
    assert found["seconds"]["evaluation"] == pytest.approx(2 * 2 + 1)
    assert found["model_steps"] == 1_000 * 5
