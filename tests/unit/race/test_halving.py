"""Which trainings a race needs next, and who is ahead, whatever order the scores arrive in."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glorasearch.choices import LayerShape
from glorasearch.errors import ConfigError
from glorasearch.race import (
    Candidate,
    Entrant,
    FoldScore,
    RaceConfig,
    candidates_of,
    entrants_of,
    rank,
    ranking,
    stacks,
    standing,
    trainings_of,
)
from glorasearch.space import SearchSpace

BETAS = (0.5, 1.0)
LAYERS = [LayerShape("blocks.0.attn.qkv", 4, 12), LayerShape("blocks.0.mlp.fc1", 4, 8)]
CHOICES = [["none"], ["vector"], ["constant"], ["lora:1"], ["lora:2"]]


def entrants() -> list[Entrant]:
    found = []
    for number, choice in enumerate(CHOICES):
        space = SearchSpace.model_validate({"name": f"m{number}", "choices": {"B": choice}}).bind(LAYERS)
        found.append(
            Entrant(
                name=f"m{number}", kind="method", space_key=f"race.methods.m{number}", space=space,
                subnet=space.largest(),
            )
        )  # fmt: skip
    return found


def candidates(rates: tuple[float, ...] = (1e-3, 1e-2)) -> list[Candidate]:
    return candidates_of(entrants(), rates)


def scores_of(found: list[Candidate], folds: int, rng: np.random.Generator) -> dict[tuple[str, int], FoldScore]:
    return {
        (candidate.key, fold): FoldScore(10, int(rng.integers(11)), tuple(rng.random(2)))
        for candidate, fold in product(found, range(folds))
    }


@given(seed=st.integers(0, 10**6), keep=st.integers(1, 12), folds=st.integers(2, 5), data=st.data())
def test_the_plan_is_what_halving_says(seed: int, keep: int, folds: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, folds))
    config = RaceConfig(folds=folds, first_folds=first, keep=keep)
    found = candidates()
    scores = scores_of(found, folds, np.random.default_rng(seed))
    one = trainings_of(1, found, {}, config, BETAS)
    assert {training.place for training in one} == set(product([c.key for c in found], range(first)))
    seen = {training.place: scores[training.place] for training in one}
    two = trainings_of(2, found, seen, config, BETAS)
    kept = entrants_of(2, found, seen, config, BETAS)
    assert len(kept) == min(keep, len(found))
    assert {training.place for training in two} == set(product([c.key for c in kept], range(first, folds)))
    worst = min(standing([scores[c.key, fold] for fold in range(first)], BETAS).accuracy for c in kept)
    for left in set(found) - set(kept):
        assert standing([scores[left.key, fold] for fold in range(first)], BETAS).accuracy <= worst
    seen |= {training.place: scores[training.place] for training in two}
    final = ranking(found, seen, config, BETAS)
    assert set(final[: len(kept)]) == set(kept)
    assert len(final) == len(set(final)) == len(found)
    best = [standing([scores[c.key, fold] for fold in range(folds)], BETAS).accuracy for c in final[: len(kept)]]
    assert best == sorted(best, reverse=True)
    shuffled = dict(sorted(seen.items(), reverse=True))
    assert ranking(found, shuffled, config, BETAS) == final


def test_ties_go_to_the_other_score_then_to_fewer_parameters_then_to_the_order() -> None:
    small, *_, large = candidates((1e-3,))
    twin = Candidate(small.entrant, 1e-2)
    same = standing([FoldScore(10, 5, (3.0, 2.0))], BETAS)
    surer = standing([FoldScore(10, 5, (3.0, 1.0))], BETAS)
    better = standing([FoldScore(10, 6, (9.0, 9.0))], BETAS)
    assert rank({large: same, small: same, twin: same}, "accuracy") == [small, twin, large]
    assert rank({small: same, large: surer}, "accuracy") == [large, small]
    assert rank({small: same, large: better}, "accuracy") == [large, small]
    assert rank({small: same, large: better}, "tempered") == [small, large]


def test_a_diverged_training_comes_last() -> None:
    one, two, *_ = candidates((1e-3,))
    diverged = standing([FoldScore(10, 0, None)], BETAS)
    poor = standing([FoldScore(10, 0, (50.0, 60.0))], BETAS)
    for judge in ("accuracy", "tempered"):
        assert rank({one: diverged, two: poor}, judge) == [two, one]  # type: ignore[arg-type]


def test_stacks_hold_every_training_once_in_order() -> None:
    trainings = trainings_of(1, candidates(), {}, RaceConfig(), BETAS)
    for size, sizes in ((8, [6, 7, 7]), (1, [1] * 20), (20, [20]), (64, [20]), (19, [10, 10])):
        found = stacks(trainings, size)
        assert [len(stack) for stack in found] == sizes
        assert [training for stack in found for training in stack] == trainings
    assert stacks([], 8) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"folds": 3, "first_folds": 4}, "first_folds is 4; allowed are 1 to the number of folds, 3"),
        ({"rates": [1e-3, 1e-3]}, "rates names one twice"),
        ({"rates": []}, "rates is empty; give at least one"),
        ({"rates": [0.0]}, "more than 0"),
        ({"starts": ["warm"]}, "fresh"),
        ({"methods": ["lora", "lora"]}, "methods names one twice"),
        ({"judge": "loss"}, "accuracy"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RaceConfig(**values)
