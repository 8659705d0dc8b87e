"""Who teaches after a race, and the mixed images that they are asked about."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.data import few_digits
from support.stage_results import RACE_SUMMARY, candidate, result

from glorasearch.errors import ConfigError
from glorasearch.runs.config import RunConfig
from glorasearch.runs.refit_config import RefitConfig
from glorasearch.runs.results import Pick, RaceResult, TrainResult
from glorasearch.runs.stages.refit import compiled_for
from glorasearch.runs.teachers import Mixture, choose_teachers, too_few


def race(*candidates: dict[str, Any]) -> RaceResult:
    return RaceResult.from_json(result("race", **RACE_SUMMARY | {"candidates": list(candidates)}))


def taught_by(found: RaceResult, count: int, orders: int) -> list[tuple[str, float | None, int]]:
    chosen = choose_teachers(found, count, orders)
    return [(teacher.candidate.name, teacher.candidate.rate, teacher.order) for teacher in chosen]


def test_the_best_of_different_methods_teach_several_times() -> None:
    found = race(
        candidate("lora", "method", 0.75, rate=1e-3), candidate("lora", "method", 0.7, rate=3e-3),
        candidate("trial 3", "searched", 0.65), candidate("ssf", "method", 0.6),
    )  # fmt: skip
    assert taught_by(found, 4, 2) == [("lora", 1e-3, 0), ("lora", 1e-3, 1), ("trial 3", 3e-3, 0), ("trial 3", 3e-3, 1)]


def test_other_rates_of_one_method_teach_where_there_is_no_other() -> None:
    found = race(candidate("lora", "method", 0.75, rate=1e-3), candidate("lora", "method", 0.7, rate=3e-3))
    assert taught_by(found, 8, 4) == [("lora", rate, order) for rate in (1e-3, 3e-3) for order in range(4)]
    assert taught_by(race(candidate("lora", "method", 0.75)), 8, 4) == [("lora", 3e-3, order) for order in range(4)]


def test_who_diverged_or_was_left_behind_does_not_teach() -> None:
    behind, diverged = candidate("ssf", "method", 0.9), candidate("bitfit", "method", 0.0)
    behind["scores"] = behind["scores"][:1]
    diverged["scores"] = [score | {"tempered": None, "beta": None} for score in diverged["scores"]]
    found = race(candidate("lora", "method", 0.75), diverged, behind)
    assert taught_by(found, 4, 2) == [("lora", 3e-3, 0), ("lora", 3e-3, 1)]


def test_fewer_teachers_than_asked_are_explained() -> None:
    assert too_few(RefitConfig(), 4, 5) == (
        "4 models teach, not 8 as refit.teachers says: 1 candidate of the race could be judged on all 5 folds, and "
        "each teaches refit.orders = 4 times; race.keep sets how many are"
    )


def test_a_mixture_is_random_pairs_and_then_every_image_alone() -> None:
    split = few_digits().train
    mixture, again = Mixture.draw(split, 30, 5), Mixture.draw(split, 30, 5)
    assert len(mixture) == 30 + len(split)
    assert torch.equal(mixture.share, again.share)
    assert torch.equal(mixture.first, again.first)
    assert not torch.equal(mixture.first[:30], Mixture.draw(split, 30, 6).first[:30])
    images, labels = mixture.batch(torch.tensor([3, 32]), "cpu")
    (one, two), _ = split.batch(torch.stack([mixture.first[3], mixture.second[3]]))
    share = float(mixture.share[3])
    assert 0 <= share < 1
    torch.testing.assert_close(images[0], share * one + (1 - share) * two)
    alone, own = split.batch(torch.tensor([2]))
    assert torch.equal(images[1], alone[0])
    assert labels[1] == own[0]


def test_teachers_share_their_orders_evenly() -> None:
    with pytest.raises(ConfigError, match="teachers is 6, which is no multiple of orders, 4"):
        RefitConfig(teachers=6)
    with pytest.raises(ConfigError, match=r"refit.steps is 0.*race.enabled = false"):
        RunConfig.from_dict({"backbone": {"name": "b"}, "data": {"source": "digits"}, "refit": {"steps": 0}})


@pytest.mark.parametrize(
    ("kind", "trained", "changes", "device", "expected"),
    [
        ("searched", {}, {}, "cuda:0", True),
        ("searched", {}, {}, "cpu", False),
        ("searched", {}, {"compile": "off"}, "cuda:0", False),
        ("method", {}, {}, "cuda:0", False),
        ("searched", {"from_run": "earlier"}, {}, "cuda:0", False),
        ("searched", {"steps": 0}, {}, "cuda:0", False),
        ("searched", {}, {"train": {"ranks": 2}}, "cuda:0", False),
    ],
)
def test_a_taught_pick_takes_the_step_that_its_own_run_compiled(
    kind: str, trained: dict[str, Any], changes: dict[str, Any], device: str, expected: bool
) -> None:
    """Not that of another process, of another space, or of fewer images a step; a CPU compiles none."""
    content = {"backbone": {"name": "b"}, "data": {"source": "digits"}} | changes
    found = TrainResult.from_json(result("train", **trained))
    pick = Pick.of(race(candidate("one", kind, 0.5)).winner)
    assert compiled_for(pick, found, RunConfig.from_dict(content), device) is expected
