"""Which subnets judge a learning rate, in which order pilots run, and when one is given up."""

from __future__ import annotations

import math
from typing import Any

import pytest
from support.stage_results import PILOT

from glorasearch.errors import ConfigError, RunError
from glorasearch.runs.config import RunConfig
from glorasearch.runs.pilots import BEHIND, JUDGED, checks, in_order, is_behind, judged_subnets, outcome
from glorasearch.runs.results import Pilot, PilotSummary
from glorasearch.space import LayerShape, SearchSpace
from glorasearch.training import TrainingConfig, TrainSection

LAYERS = [LayerShape(f"blocks.{number}.attn.qkv", 24, 72) for number in range(4)]


def ended(rate: float, *scores: float, **changes: Any) -> PilotSummary:
    return PilotSummary.from_json(PILOT | {"rate": rate, "scores": scores} | changes)


@pytest.mark.parametrize(
    ("steps", "pilot_steps", "expected"),
    [(6_000, None, (200, 400, 600)), (250, None, (34, 68, 100)), (0, None, (34, 68, 100)), (250, 4, (2, 4))],
)
def test_a_pilot_has_a_tenth_of_the_steps_and_its_own_schedule(
    steps: int, pilot_steps: int | None, expected: tuple[int, ...]
) -> None:
    section = TrainSection(steps=steps, pilot_steps=pilot_steps, head_lr=0.5, seed=4)
    pilot = section.pilot(3e-3)
    assert checks(pilot) == expected
    assert (pilot.steps, pilot.lr, pilot.head_lr, pilot.seed) == (expected[-1], 3e-3, 0.5, 4)
    assert section.at(3e-3) == TrainingConfig(steps=steps, lr=3e-3, head_lr=0.5, seed=4)


def test_only_a_run_file_may_leave_the_rate_open() -> None:
    assert RunConfig.from_dict({"backbone": {"name": "x"}, "data": {"source": "digits"}}).train.lr == "auto"
    with pytest.raises(ConfigError, match='"auto" is for runs, whose pilots find the rate'):
        TrainingConfig(lr="auto")  # type: ignore[arg-type]


@pytest.mark.parametrize("rates", [(), (1e-3,), (1e-3, 1e-2, 1e-3)])
def test_there_is_something_to_choose_from(rates: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=r"pilot_rates are .*; expected two different rates or more, or set lr"):
        TrainSection(pilot_rates=rates)


def test_the_middle_runs_first() -> None:
    assert in_order([1e-3, 3e-3, 1e-2]) == [3e-3, 1e-3, 1e-2]
    assert in_order([1e-2, 1e-4, 1e-3, 1e-5]) == [1e-4, 1e-3, 1e-5, 1e-2]


def test_a_pilot_is_given_up_when_it_is_clearly_behind_the_best_at_the_same_check() -> None:
    (first, _), (second, _) = BEHIND
    others = [ended(3e-3, 0.9, 0.4, 0.1), ended(1e-3, 0.5, stopped=True)]
    assert not is_behind([2.0], [], math.log(1_000))
    assert is_behind([0.5 * first + 0.01], others, math.log(1_000))
    assert not is_behind([0.5 * first - 0.01], others, math.log(1_000))
    assert is_behind([0.1, 0.4 * second + 0.01], others, math.log(1_000))
    assert not is_behind([9.0, 0.4 * second - 0.01], others, math.log(1_000)), "the one that was given up was not there"
    assert not is_behind([9.0, 9.0, 9.0], others, math.log(1_000)), "at its end there is nothing to save"


def test_where_scores_are_near_chance_the_way_down_from_it_counts() -> None:
    chance, others = math.log(10), [ended(3e-3, math.log(10) - 0.3, math.log(10) - 0.8, 1.0)]
    (_, first), (_, second) = BEHIND
    assert is_behind([chance - 0.3 * first + 0.01], others, math.log(10))
    assert not is_behind([chance - 0.3 * first - 0.01], others, math.log(10))
    assert is_behind([chance, chance - 0.8 * second + 0.01], others, math.log(10))
    assert not is_behind([chance, chance - 0.8 * second - 0.01], others, math.log(10))
    still = [ended(3e-3, chance - 0.04 * chance, 1.0, 1.0)]
    assert not is_behind([chance + 0.01], still, math.log(10)), "no pilot has learnt anything yet"


def test_the_best_is_one_that_came_to_its_end() -> None:
    low, high = ended(1e-3, 2.0, 1.0, 0.5), ended(3e-3, 2.0, 1.0, 0.5)
    gone = [ended(1e-2, 0.1, stopped=True), ended(1.0, diverged=True), ended(2.0, 0.1, 0.1, diverged=True)]
    found = outcome([high, *gone, low], 9)
    assert (found.lr, found.subnets, found.steps, found.seconds) == (1e-3, 9, 500, 5.0)
    assert [pilot.rate for pilot in found.pilots] == [1e-3, 3e-3, 1e-2, 1.0, 2.0]
    assert outcome([ended(1e-3, 2.0, 1.0, 0.6), high], 9).lr == 3e-3
    with pytest.raises(RunError, match=r"all pilots diverged, at learning rates 1, 2: set lower train\.pilot_rates"):
        outcome(gone[1:], 9)


def test_the_judges_are_the_largest_subnet_and_random_ones_within_the_budget() -> None:
    content = {"name": "toy", "choices": {"B": ["none", "lora:2", "lora:8"], "E": ["none", "vector"]}}
    whole = SearchSpace.model_validate(content).bind(LAYERS)
    budget = {"max": whole.parameters(whole.largest()) // 3}
    small = SearchSpace.model_validate(content | {"budget": budget}).bind(LAYERS)
    found = judged_subnets(small, 3)
    assert found == judged_subnets(small, 3) != judged_subnets(small, 4)
    assert len(found) == JUDGED + 1
    assert found.popitem()[0].endswith(f"random_{JUDGED}")
    for name, subnet in found.items():
        fits = small.within_budget(small.parameters(subnet))
        assert fits or name.endswith("largest")


def test_a_fixed_method_judges_itself() -> None:
    bound = SearchSpace.load("lora").bind(LAYERS)
    assert list(judged_subnets(bound, 0).values()) == [bound.largest()]


def test_a_pilot_is_stored_whole() -> None:
    pilot = Pilot.from_json(PILOT | {"key": "k"})
    assert Pilot.from_json(pilot.to_json()) == pilot
