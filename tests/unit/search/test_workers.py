"""Generational mode: the trials, and all that is recorded of them, do not depend on the workers."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glorasearch.search import Executor, LogNormalSeconds, SearchConfig, SimulatedExecutor
from glorasearch.space import EvaluationResult, EvaluationTask

CONFIG = {"trials": 45, "population": 15, "parents": 4, "batch": 10}


class Permuted(Executor):
    """Workers that answer in an order chosen by hypothesis."""

    def __init__(self, evaluate, capacity: int, choices: list[int]) -> None:
        self._evaluate, self._capacity, self._choices = evaluate, capacity, choices
        self._under_way: list[EvaluationTask] = []
        self._answered = 0

    @property
    def capacity(self) -> int:
        return self._capacity

    def submit(self, task: EvaluationTask) -> None:
        self._under_way.append(task)

    def next_result(self) -> EvaluationResult:
        choice = self._choices[self._answered % len(self._choices)]
        self._answered += 1
        return self._evaluate(self._under_way.pop(choice % len(self._under_way)))

    def close(self) -> None:
        self._under_way.clear()


@pytest.mark.parametrize("sampler", ["evolution", "random", "nsga2"])
@pytest.mark.parametrize("lag", [None, 6])
def test_1_and_8_workers(new_search, imagewise, sampler, lag):
    found = []
    for workers in (1, 8):
        search = new_search()
        executor = SimulatedExecutor(imagewise(), workers, LogNormalSeconds(sigma=1.0))
        outcome = search.run(SearchConfig(sampler=sampler, early_stopping_lag=lag, **CONFIG | {"trials": 75}), executor)
        found.append((search.trials, outcome.best, outcome.stopped_early, outcome.images_share))
    assert found[0] == found[1]
    assert (found[0][2] > 0) == (sampler != "nsga2")


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(capacity=st.integers(1, 20), choices=st.lists(st.integers(0, 19), min_size=1, max_size=45))
def test_any_order_of_completion(new_search, imagewise, capacity, choices):
    config = SearchConfig(**CONFIG)
    one, other = new_search(), new_search()
    expected = one.run(config, Permuted(imagewise(), 1, [0]))
    found = other.run(config, Permuted(imagewise(), capacity, choices))
    assert one.trials == other.trials
    assert (found.best, found.stopped_early, found.images_share) == (
        expected.best,
        expected.stopped_early,
        expected.images_share,
    )
    assert expected.stopped_early > 0


def test_without_a_lag_thresholds_come_from_the_batches_before_and_nothing_is_waited_for(new_search, imagewise):
    scorer, search = imagewise(), new_search()
    search.run(SearchConfig(**CONFIG), Permuted(scorer, 15, [0]))
    evaluated = [trial for trial in search.trials if trial[3]["origin"] == "evaluated"]
    assert len(scorer.thresholds) == len(evaluated)
    for threshold, (number, *_) in zip(scorer.thresholds, evaluated, strict=True):
        before = [trial[3] for trial in evaluated if trial[0] < number - number % 15]
        known = sorted(attrs["tempered"] for attrs in before if "tempered" in attrs)
        assert threshold == (known[3] if known else None)
