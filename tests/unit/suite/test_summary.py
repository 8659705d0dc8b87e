"""What finished units say together, against sums by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from suite_parts.arms import ARMS, TUNING_SEED, units_of
from suite_parts.configs import check_configs
from suite_parts.settings import QUICK, Settings
from suite_parts.summary import summarise
from suite_parts.tables import full, short
from suite_parts.tasks import Sizes
from suite_parts.units import Unit, UnitStore

from glorasearch.errors import ConfigError

IMAGES = 20
WINNER = {("a", 0): 15, ("a", 1): 16, ("b", 0): 10, ("b", 1): 9}
YARDSTICK = {("a", 0): 12, ("a", 1): 14, ("b", 0): 9, ("b", 1): 10}
"""Correct images."""


def unit(correct: int, seconds: float = 10.0, device: str = "GPU", **more: Any) -> dict[str, Any]:
    return {
        "test_accuracy": correct / IMAGES,
        "correct": "1" * correct + "0" * (IMAGES - correct),
        "pick": {"name": "lora", "kind": "method", "rate": 1e-3},
        "parameters": 100,
        "steps": 5,
        "model_steps": 50,
        "seconds": {"training": seconds, "evaluation": 2.0},
        "compile_seconds": 1.0,
        "wall_seconds": 20.0,
        "device": device,
        "sharing": 1,
        "versions": {"torch": "2"},
    } | more


@pytest.fixture
def summary() -> dict[str, Any]:
    found = {Unit(*pair, "evolution"): unit(correct, 5.0) for pair, correct in WINNER.items()}
    for pair, correct in YARDSTICK.items():
        others = {"tempered_pick": unit(correct - 1), "lora4": unit(correct - 2)}
        found[Unit(*pair, "yardstick")] = unit(correct, **others)
    found[Unit("a", 0, "lora4_budget")] = unit(13)
    found[Unit("a", 0, "yardstick_alone")] = unit(12, 13.0)
    found[Unit("a", 0, "tau")] = unit(0) | {
        "tau": {"tempered": 0.5, "cross_entropy": 0.25, "accuracy": 0.125},
        "tau_with_one_training": {"tempered": 0.375},
        "tau_of_two_trainings": 0.625,
    }
    for seed, sandwich in ((0, 0.5), (1, 0.25)):
        ideas = {"sandwich": {"tempered": sandwich, "accuracy": 0.125, "cross_entropy": 0.0}, "50": {"tempered": 0.0}}
        found[Unit("a", seed, "tau_ideas")] = unit(0) | {"ideas": ideas}
    for seed, light in ((0, 0.75), (1, 0.5)):
        found[Unit("a", seed, "augmentation")] = unit(0) | {"recipes": {"none": 0.5, "light": light, "ema": 0.25}}
    head = {"tasks": ["a", "b"], "seeds": [0, 1], "budget": "lora16", "date": "2026-01-01", "revision": "abc"}
    return json.loads(json.dumps(head | summarise(found)))  # type: ignore[no-any-return]


def test_means_of_arms_are_over_the_pairs_that_both_sides_have() -> None:
    """A suite that is not done has other pairs of each."""
    other = {"tempered_pick": unit(9), "lora4": unit(8)}
    found = {Unit("a", 0, "evolution"): unit(15), Unit("a", 1, "evolution"): unit(5)}
    found |= {Unit("a", 0, "yardstick"): unit(10, **other), Unit("b", 0, "yardstick"): unit(20, **other)}
    found[Unit("c", 3, "random")] = unit(7)
    arms = summarise(found)["arms"]
    assert {name: arm["test_accuracy"] for name, arm in arms.items()} == {
        "evolution": 15 / IMAGES, "yardstick": 10 / IMAGES, "random": 7 / IMAGES
    }  # fmt: skip
    assert [arm["pairs"] for arm in arms.values()] == [1, 1, 1]


def test_the_winner_against_the_yardstick(summary: dict[str, Any]) -> None:
    found = summary["winner_minus_yardstick"]
    assert [one["points"] for one in found["each"]] == pytest.approx([15, 10, 5, -5])
    assert found["mean_points"] == pytest.approx(6.25)
    assert found["pairs"] == 4
    assert found["better"] == 3
    assert found["per_task"] == pytest.approx({"a": 12.5, "b": 0.0})
    assert found["worst_task"] == {"task": "b", "mean_points": pytest.approx(0.0)}
    # ranks 4, 3, 1.5 and 1.5 of which one is negative: of the 16 signs, 3 have a sum of at least 8.5
    assert found["wilcoxon_p"] == pytest.approx(3 / 16)
    assert found["each"][0]["mcnemar_p"] == pytest.approx(0.25)  # three images that only the winner has right
    assert summary["winner_minus_tempered_pick"]["mean_points"] == pytest.approx(11.25)
    assert summary["lora4_budget"]["mean_points"] == pytest.approx(15)
    assert summary["winner_minus_race_only"] is None


def test_cost_ranks_and_tau(summary: dict[str, Any]) -> None:
    assert summary["cost_ratio"] == pytest.approx((5 + 2 - 1) / (10 + 2 - 1))
    assert summary["cost"]["ratio_with_compilation"] == pytest.approx(7 / 12)
    assert summary["ranks"] == pytest.approx({"evolution": 1.25, "yardstick": 1.75})
    assert summary["tau_tempered_inherited"] == 0.5
    assert summary["tau"]["ceiling"] == 0.625
    assert summary["tau_ideas"]["sandwich"]["tempered"]["mean"] == 0.375
    assert [one["tau"] for one in summary["tau_ideas"]["sandwich"]["tempered"]["each"]] == [0.5, 0.25]
    assert "| sandwich | 0.38 | 0.12 | 0.00 |" in full(summary)
    assert "| 50 | 0.00 |  |  |" in full(summary)


def test_tau_of_a_task_is_the_mean_of_its_seeds() -> None:
    def tau(tempered: float, ceiling: float) -> dict[str, Any]:
        own = {"tempered": tempered, "cross_entropy": 0.0, "accuracy": 0.0}
        return unit(0) | {"tau": own, "tau_with_one_training": {"tempered": 0.0}, "tau_of_two_trainings": ceiling}

    found = summarise({Unit("a", 0, "tau"): tau(0.5, 0.75), Unit("a", 1, "tau"): tau(0.25, 0.25)})["tau"]
    assert (found["mean"], found["per_task"]) == (0.375, {"a": 0.375})
    assert (found["ceiling"], found["ceiling_per_task"]) == (0.5, {"a": 0.5})


def test_recipes_are_compared_with_none(summary: dict[str, Any]) -> None:
    found = summary["augmentation"]["minus_none"]
    assert list(found) == ["light", "ema"]
    assert found["light"]["mean_points"] == pytest.approx(12.5)
    assert found["light"]["wilcoxon_p"] == pytest.approx(0.5)  # a difference of zero is left out
    assert found["ema"]["per_task"] == {"a": pytest.approx(-25)}
    assert "| light | +12.50 |  | +12.50 |" in full(summary)
    assert "augmentation" not in summary["arms"]


def test_tables_say_it(summary: dict[str, Any]) -> None:
    text = full(summary)
    assert (
        "| exported winner minus the yardstick, points | at least +0.5, p < 0.05 | +6.25, p = 0.188, 4 pairs |" in text
    )
    assert "| worst task, mean over seeds, points | at least -0.5 | +0.00 (b) |" in text
    assert "| b | 1 | lora at 0.001 | lora at 0.001 | -5.00 | 1.000 |" in text
    assert "nan" not in text
    assert "**+6.25 points**" in short(summary)
    assert f"Its device seconds were {summary['cost_ratio']:.2f} of the yardstick's (" in short(summary)
    assert summary["cost_ratio"] < 1
    assert "at most 1.0 was the aim" not in short(summary)
    assert "tau 0.50, where two trainings agree to 0.62; at least 0.6 was the aim, which is missed." in short(summary)
    small = summary["lora4_budget"]["mean_points"]
    assert f"minus LoRA r=4 at its best rate: {small:+.2f}" in short(summary)
    assert "Minus the same product without search" not in short(summary), "not measured here"
    nothing = {"tasks": ["a"], "seeds": [0], "budget": "1", "date": "", "revision": ""} | summarise({})
    assert "not measured" in full(nothing)
    assert short(nothing)


def settings(**more: Any) -> Settings:
    needed = {"backbone": "quickstart", "device": "cpu", "budget": "lora16", "backbone_digest": "1"}
    return Settings(**needed | {"task_digests": {"a": "2"}} | more)  # type: ignore[arg-type]


@pytest.mark.parametrize("quick", [{}, QUICK])
def test_the_overrides_of_every_arm_fit(quick: dict[str, Any]) -> None:
    check_configs(settings(**quick), list(ARMS))
    with pytest.raises(ConfigError, match=r"suite\.toml, arm evolution: .*'search\.trails'"):
        check_configs(settings(overrides=("search.trails=3",)), list(ARMS))


def test_cost_is_that_of_sides_which_were_measured_together_where_there_are_such(summary: dict[str, Any]) -> None:
    assert summary["cost_ratio"] != pytest.approx(1.5), "that of the main arms"
    side = {"model_steps": 5, "compile_seconds": 1.0}
    sides = {
        "evolution": side | {"seconds": {"training": 6.0, "evaluation": 1.0}},
        "yardstick": side | {"seconds": {"training": 4.0, "evaluation": 1.0}},
        "yardstick_alone": side | {"seconds": {"training": 12.0, "evaluation": 1.0}},
    }
    found = {
        Unit("a", 0, arm): unit(1, 50.0, lora4=unit(1), tempered_pick=unit(1)) for arm in ("evolution", "yardstick")
    }
    found[Unit("a", 5, "cost")] = unit(0) | {"sides": sides}
    together = summarise(found)
    assert (together["cost_ratio"], together["cost_one_by_one"]["ratio"]) == (1.5, 0.5)
    assert together["cost"]["ratio_with_compilation"] == pytest.approx(7 / 5)
    assert together["cost"]["pairs"] == 1
    alone = found | {Unit("a", 5, "cost"): unit(0) | {"sides": sides, "sharing": 2}}
    assert summarise(alone)["cost_ratio"] == 1, "main arms had a device for themselves, and these had not"
    assert "cost" not in together["arms"]
    assert "cost" not in together["ablations"]


def test_what_the_targets_need_comes_first() -> None:
    units = units_of(["a", "b"], [0, 1], ["tau", "yardstick", "evolution"])
    assert [one.arm for one in units] == ["evolution"] * 4 + ["yardstick"] * 4 + ["tau"] * 2
    assert {one.seed for one in units if one.arm == "tau"} == {0}
    assert {one.seed for one in units_of(["a"], [0, 1], ["tau"], every=True)} == {0, 1}, "what was done is counted"


@pytest.mark.parametrize("every", [False, True])
def test_ideas_are_tried_on_a_seed_for_tuning_whatever_the_others_are(every: bool) -> None:
    units = units_of(["a"], [0, 1], ["tau_ideas"], every=every)
    assert [one.seed for one in units] == [TUNING_SEED], "results of seeds 0 to 2 decide on nothing"


def test_units_of_other_settings_are_refused(tmp_path: Path) -> None:
    store, one = UnitStore(tmp_path / "units", settings().keys), Unit("a", 0, "evolution")
    assert store.read(one) is None
    store.write(one, {"found": 1})
    assert store.read(one) == {"task": "a", "seed": 0, "arm": "evolution", "key": settings().keys["a"], "found": 1}
    assert dict(store.done([one, one._replace(seed=1)])).keys() == {one}
    for other in (
        settings(budget="lora4"),
        settings(backbone_digest="2"),
        settings(task_digests={"a": "3"}),
        settings(sizes=Sizes(train=3)),
    ):
        with pytest.raises(ValueError, match="was made with other settings"):
            UnitStore(tmp_path / "units", other.keys).read(one)
    more = settings(task_digests={"a": "2", "b": "3"}, backbone="local-dir:/elsewhere", device="cuda")
    assert UnitStore(tmp_path / "units", more.keys).read(one) is not None


def test_what_the_yardstick_costs_one_by_one_is_said_beside_the_cost(summary: dict[str, Any]) -> None:
    """Of the pairs that have both; nobody would export its models, so it is in no table of accuracies."""
    assert summary["cost_one_by_one"]["ratio"] == pytest.approx(6 / 14)
    assert summary["cost_one_by_one"]["pairs"] == 1
    assert "one by one, each captured in a graph |  | 0.43; " in full(summary)
    assert "yardstick_alone" not in summary["arms"]
    assert "yardstick_alone" not in summary["ablations"]


def test_no_mean_over_other_pairs_stands_beside_the_arms(summary: dict[str, Any]) -> None:
    """The arm with the small budget has one pair of the four."""
    row = next(line for line in full(summary).splitlines() if ARMS["lora4_budget"].title in line)
    assert row.split("|")[2:5] == [" 65.00 (1 of 2) ", "  ", "  "]
    assert "(1 of 3): of so many of the seeds" in full(summary)
    assert "(1 of" not in short(summary), "whole arms alone"
    assert summary["arms"]["lora4_budget"]["seeds_per_task"] == {"a": [0]}
