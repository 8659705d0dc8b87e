"""A search with early stopping makes the trials, the parents and the winner of one without."""

import random
from typing import Any

import pytest
from optuna.trial import TrialState

from glorasearch.search import SAMPLERS, InProcessExecutor, SearchConfig
from glorasearch.space import FITNESSES, EvaluationResult

Trials = list[tuple[Any, ...]]
SIZE: dict[str, Any] = {"trials": 90, "population": 15, "parents": 4, "batch": 10}


class Shuffled(InProcessExecutor):
    """Has several tasks under way and answers them in an order of its own."""

    capacity = 5

    def next_result(self) -> EvaluationResult:
        random.Random(len(self._waiting)).shuffle(self._waiting)
        return super().next_result()


def parents_of(search: Any, config: SearchConfig) -> list[list[str]]:
    """The parents of every generation: the best distinct subnets of all trials before it that came to their end."""
    found, trials = [], search.trials
    for first in range(config.population, config.trials + 1, config.population):
        complete = [trial for trial in trials[:first] if trial[4] == TrialState.COMPLETE]
        sign, tie = (-1, "cross_entropy") if config.fitness == "accuracy" else (1, "accuracy")
        complete.sort(key=lambda trial: (sign * trial[2][0], -sign * trial[3][tie], trial[0]))
        found.append(list(dict.fromkeys(trial[3]["subnet"] for trial in complete))[: config.parents])
    return found


def differences(plain: Trials, stopping: Trials) -> list[str]:
    """What differs between the trials of two searches, but for the scores of those stopped early."""
    found = []
    for (number, params, values, attrs, state), other in zip(plain, stopping, strict=True):
        if other[4] == TrialState.PRUNED:
            same = (params, attrs["subnet"], attrs["origin"]) == (other[1], other[3]["subnet"], other[3]["origin"])
        else:
            same = (number, params, values, attrs, state) == other
        if not same:
            found.append(f"trial {number}")
    return found


@pytest.mark.parametrize("fitness", FITNESSES)
@pytest.mark.parametrize("seed", range(4))
def test_same_parents_and_same_winner(new_search, imagewise, fitness, seed):
    """However late a threshold comes."""
    order = random.Random(seed).sample(range(40), 40) if seed else range(40)
    without = SearchConfig(fitness=fitness, seed=seed, early_stopping=False, **SIZE)
    plain = new_search()
    expected = plain.run(without, InProcessExecutor(imagewise()))
    trials, parents = plain.trials, parents_of(plain, without)
    assert (expected.stopped_early, expected.images_share) == (0, 1)
    for lag in (1, 4, 20):
        config = SearchConfig(fitness=fitness, seed=seed, early_stopping_lag=lag, **SIZE)
        stopping, scorer = new_search(), imagewise(order, chunk=1 + seed)
        found = stopping.run(config, InProcessExecutor(scorer))
        assert differences(trials, stopping.trials) == [], lag
        assert parents == parents_of(stopping, config), lag
        assert (found.best, found.subnet) == (expected.best, expected.subnet), lag
        assert found.stopped_early == sum(trial[4] == TrialState.PRUNED for trial in stopping.trials) > 0, lag
        assert found.images_share == sum(scorer.seen.values()) / (40 * len(scorer.seen)) < 1, lag


@pytest.mark.parametrize("fitness", FITNESSES)
def test_hard_images_first_save_more(new_search, imagewise, fitness):
    shares = []
    for order in (range(40), range(39, -1, -1)):
        config = SearchConfig(fitness=fitness, early_stopping_lag=1, **SIZE)
        shares.append(new_search().run(config, InProcessExecutor(imagewise(order))).images_share)
    assert shares[0] < shares[1] - 0.1


@pytest.mark.parametrize("fitness", FITNESSES)
def test_a_stopped_trial_is_recorded_with_its_bound_and_could_not_have_been_a_parent(new_search, imagewise, fitness):
    config = SearchConfig(fitness=fitness, early_stopping_lag=3, **SIZE)
    search, plain = new_search(), new_search()
    search.run(config, InProcessExecutor(imagewise()))
    plain.run(SearchConfig(fitness=fitness, early_stopping=False, **SIZE), InProcessExecutor(imagewise()))
    sign, full = -1 if fitness == "accuracy" else 1, plain.trials
    for number, _, values, attrs, state in search.trials:
        if state != TrialState.PRUNED:
            assert "bound" not in attrs
            continue
        assert values == [attrs["bound"]]
        assert 0 < attrs["stopped_after"] < attrs["total"] == 40
        assert attrs["seen_accuracy"] == attrs["correct"] / attrs["stopped_after"]
        assert not {"accuracy", "cross_entropy", "tempered", "temperature"} & attrs.keys()
        score = sign * full[number][3][fitness]
        assert sign * attrs["bound"] <= score
        earlier = {trial[3]["subnet"]: sign * trial[3][fitness] for trial in full[: max(0, number - 2)]}
        assert sum(other < score for other in earlier.values()) >= 4


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_which_samplers_stop_early_and_where_the_threshold_comes_from(new_search, imagewise, sampler):
    for fitness in ("accuracy",) if sampler == "nsga2" else FITNESSES:
        scorer = imagewise()
        config = SearchConfig(sampler=sampler, fitness=fitness, early_stopping_lag=7, **SIZE | {"trials": 40})
        search = new_search()
        outcome = search.run(config, InProcessExecutor(scorer))
        if sampler in ("tpe", "nsga2"):
            assert set(scorer.thresholds) == {None}
            assert outcome.stopped_early == 0
            continue
        kept, sign = {"evolution": 4, "random": 1}[sampler], -1 if fitness == "accuracy" else 1
        evaluated = [trial for trial in search.trials if trial[3]["origin"] == "evaluated"]
        assert len(scorer.thresholds) == len(evaluated)
        for threshold, (number, *_) in zip(scorer.thresholds, evaluated, strict=True):
            known = sorted(sign * t[3][fitness] for t in evaluated if t[0] <= number - 7 and fitness in t[3])
            assert threshold == (None if len(known) < kept else sign * known[kept - 1])


@pytest.mark.parametrize("sampler", ["evolution", "random"])
def test_records_do_not_depend_on_the_order_of_results(new_search, imagewise, sampler):
    for lag in (1, 3, 8):
        config = SearchConfig(sampler=sampler, early_stopping_lag=lag, **SIZE)
        first, second = new_search(), new_search()
        expected = first.run(config, InProcessExecutor(imagewise()))
        found = second.run(config, Shuffled(imagewise()))
        assert first.trials == second.trials
        assert found.stopped_early == expected.stopped_early > 0


@pytest.mark.parametrize("broken", ["0", "0123"])
def test_scores_that_are_not_finite_fail_or_were_stopped_before(new_search, imagewise, broken):
    """A NaN in an image that a stopped candidate never saw goes unnoticed; parents and winner are still the same."""
    config = SearchConfig(**SIZE, max_failure_share=1.0)
    without = SearchConfig(**SIZE, max_failure_share=1.0, early_stopping=False)
    plain, stopping = new_search(), new_search()
    expected = plain.run(without, InProcessExecutor(imagewise(broken=broken)))
    found = stopping.run(config, InProcessExecutor(imagewise(broken=broken)))
    assert [trial[1] for trial in plain.trials] == [trial[1] for trial in stopping.trials]
    assert parents_of(plain, config) == parents_of(stopping, config)
    assert found.best == expected.best
    assert 0 < found.failed <= expected.failed
    for (*_, attrs, state), other in zip(plain.trials, stopping.trials, strict=True):
        if state == TrialState.FAIL:
            assert other[4] in (TrialState.FAIL, TrialState.PRUNED)
            assert attrs["subnet"][0] in broken


def test_a_stopped_subnet_that_is_met_again_is_not_evaluated_again(new_search, space_maker, imagewise):
    space = space_maker(layers=3, choices={"B": ["lora:2", "vector", "none"]}, budget={})
    config = SearchConfig(**SIZE | {"trials": 120, "parents": 2})
    plain, stopping = new_search(space), new_search(space)
    scorer = imagewise(chunk=1)
    plain.run(
        SearchConfig(**SIZE | {"trials": 120, "parents": 2}, early_stopping=False), InProcessExecutor(imagewise())
    )
    found = stopping.run(config, InProcessExecutor(scorer))
    assert differences(plain.trials, stopping.trials) == []
    assert len(scorer.thresholds) == len(scorer.seen) == found.evaluated
    again = [trial for trial in stopping.trials if trial[4] == TrialState.PRUNED and trial[3]["origin"] == "reused"]
    assert len(again) > 5
    for _, params, values, attrs, _ in again:
        source = stopping.trials[attrs["reused_from"]]
        assert (source[1], source[2], source[4]) == (params, values, TrialState.PRUNED)
        assert attrs["seconds"] == 0


def test_stopped_trials_are_on_no_pareto_front(new_search, imagewise):
    search = new_search()
    outcome = search.run(SearchConfig(**SIZE), InProcessExecutor(imagewise()))
    assert outcome.stopped_early
    for record in outcome.pareto:
        assert not record.score.stopped_early
        assert search.trials[record.number][4] == TrialState.COMPLETE


def test_a_study_can_be_continued_with_and_without_early_stopping(new_search, imagewise):
    first, second = new_search(), new_search()
    first.run(SearchConfig(**SIZE), InProcessExecutor(imagewise()))
    for trials, early_stopping in ((35, True), (50, False), (90, True)):
        config = SearchConfig(**SIZE | {"trials": trials}, early_stopping=early_stopping)
        outcome = second.run(config, InProcessExecutor(imagewise()))
    assert [trial[1] for trial in first.trials] == [trial[1] for trial in second.trials]
    states = [trial[4] for trial in second.trials]
    assert TrialState.PRUNED not in states[35:50]
    assert TrialState.PRUNED in states[:35]
    assert TrialState.PRUNED in states[50:]
    assert first.trials[:35] == second.trials[:35]
    assert first.trials[50:] == second.trials[50:], "thresholds come from what was evaluated to the end"
    assert outcome.images_share < 1
