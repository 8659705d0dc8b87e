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
    rungs_of,
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
    rungs = sorted(data.draw(st.sets(st.integers(1, folds), min_size=1)))
    config = RaceConfig(folds=folds, rungs=rungs, keep=keep)
    found = candidates()
    scores = scores_of(found, folds, np.random.default_rng(seed))

    def accuracy(candidate: Candidate, judged: int) -> float:
        return standing([scores[candidate.key, fold] for fold in range(judged)], BETAS).accuracy

    seen: dict[tuple[str, int], FoldScore] = {}
    before, runners, total = 0, found, 0
    dropped: list[tuple[int, list[Candidate]]] = []
    assert len(rungs_of(config)) == len(config.judged) == len(set(rungs) | {folds})
    for rung, judged in zip(rungs_of(config), config.judged, strict=True):
        kept = entrants_of(rung, found, seen, config, BETAS)
        least = keep if judged == folds else max(keep, -(-len(runners) // 2))
        assert len(kept) == (len(found) if rung == 1 else min(least, len(runners)))
        assert kept == [one for one in runners if one in kept]
        left = [one for one in runners if one not in kept]
        if left:
            assert max(accuracy(one, before) for one in left) <= min(accuracy(one, before) for one in kept)
            dropped.append((before, left))
        trainings = trainings_of(rung, found, seen, config, BETAS)
        places = [training.place for training in trainings]
        assert places == list(product([c.key for c in kept], range(before, judged)))
        seen |= {place: scores[place] for place in places}
        before, runners, total = judged, kept, total + len(places)
    assert before == folds
    assert config.trainings(len(found)) == total
    final = ranking(found, seen, config, BETAS)
    groups = [(folds, runners), *reversed(dropped)]
    assert len(final) == len(set(final)) == len(found)
    for judged, group in groups:
        here, final = final[: len(group)], final[len(group) :]
        assert set(here) == set(group)
        best = [accuracy(one, judged) for one in here]
        assert best == sorted(best, reverse=True)
    shuffled = dict(sorted(seen.items(), reverse=True))
    assert ranking(found, shuffled, config, BETAS) == ranking(found, seen, config, BETAS)


def test_at_the_defaults_half_of_them_see_a_second_fold_and_eight_the_others() -> None:
    assert RaceConfig().entrants(48) == (48, 24, 8)
    assert RaceConfig().trainings(48) == 48 + 24 + 3 * 8
    assert RaceConfig(rungs=(2,)).trainings(48) == 2 * 48 + 3 * 8
    assert RaceConfig(rungs=(5,)).trainings(48) == 5 * 48


def test_a_short_run_has_a_short_race() -> None:
    assert [RaceConfig().training_steps(steps) for steps in (6, 399, 6_000, 0)] == [6, 399, 400, 400]
    assert RaceConfig(steps=1_000).training_steps(6) == 1_000


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
    for size, sizes in ((4, [3, 3, 4]), (1, [1] * 10), (10, [10]), (64, [10]), (9, [5, 5])):
        found = stacks(trainings, size)
        assert [len(stack) for stack in found] == sizes
        assert [training for stack in found for training in stack] == trainings
    assert stacks([], 8) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"folds": 3, "rungs": [4]},
            r"rungs is \[4\]; allowed are increasing numbers from 1 to the number of folds, 3",
        ),
        ({"rungs": [2, 1]}, r"rungs is \[2, 1\]; allowed are increasing"),
        ({"rungs": [1, 1]}, r"rungs is \[1, 1\]; allowed are increasing"),
        ({"rungs": []}, "rungs is empty; give at least one"),
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
