"""A race whose stacks are trained by tasks of a Ray cluster: the race of one process, on GPUs one finalist a card."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.devices import Device, parameters

from glorasearch.runs.results import RaceResult, Results

Bench = Any
RACE = (
    "race.enabled=true", 'race.methods=["lora", "ssf"]', "race.rates=[3e-3]", "race.finalists=1",
    "race.named=1", "race.steps=24", "race.folds=3", "race.rungs=[1]", "race.keep=2", "search.trials=32",
    "train.steps=20",
)  # fmt: skip
"""Four entrants on one fold, then the best two on two more: two stacks each time, side by side."""


def race_of(bench: Bench) -> RaceResult:
    found = Results(bench.record.stages).race
    assert found is not None
    return found


@pytest.mark.parametrize("device", parameters())
def test_on_a_cluster_it_is_the_same_race(
    make_bench: Callable[..., Bench], make_copy: Callable[[Bench], Bench], device: Device
) -> None:
    """On the CPU two models side by side, to the bit. On GPUs each task has a card for itself and trains one."""
    stack = "race.stack=1" if device.cuda else "race.stack=2"
    alone = make_bench(*RACE, stack, *device.settings)
    for command in ("train", "search"):
        alone.finish(command)
    spread = make_copy(alone)
    alone.finish("race")
    spread.finish("race", *device.evaluators(cpus=2, gpus=2, share=1))
    expected, found = race_of(alone), race_of(spread)
    assert found.trainings == expected.trainings
    if not device.cuda:
        assert [(one.label, one.scores) for one in found.candidates] == [
            (one.label, one.scores) for one in expected.candidates
        ]
        return
    first = {one.label: one.scores[0].accuracy for one in expected.candidates}
    assert {one.label for one in found.candidates} == first.keys()
    print(f"the same scores: {[one.scores for one in found.candidates] == [one.scores for one in expected.candidates]}")
    for one in found.candidates:
        assert one.scores[0].accuracy == pytest.approx(first[one.label], abs=0.05), one.label
    last = {one.label: one.last.accuracy for one in expected.candidates}
    assert last[found.winner.label] == pytest.approx(expected.winner.last.accuracy, abs=0.02)
