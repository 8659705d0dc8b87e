"""Steady mode: a trial is sampled as soon as there is room for it, from what has finished so far."""

import random
from collections import Counter
from typing import Any

import pytest
from optuna.trial import TrialState

from glorasearch.errors import EvaluationError, SearchError
from glorasearch.search import Executor, InProcessExecutor, LogNormalSeconds, SearchConfig, SimulatedExecutor
from glorasearch.space import FITNESSES, EvaluationResult, EvaluationTask, evaluate_safely

SMALL: dict[str, Any] = {"mode": "steady", "trials": 60, "population": 12, "parents": 4, "batch": 8}
STEADY = ("evolution", "random", "tpe")


class Disorderly(Executor):
    """So many tasks under way, answered in an order drawn from a seed; interrupts after some results.

    `log` holds what was submitted (task) and what was answered (result), in order.
    """

    def __init__(self, evaluate: Any, capacity: int = 5, seed: int = 0, results: int = 10**6) -> None:
        self._evaluate, self._capacity, self.left = evaluate, capacity, results
        self._random = random.Random(seed)
        self._under_way: list[EvaluationTask] = []
        self.most = 0
        self.waits: list[int] = []
        """Tasks that were under way, whenever a result was asked for."""
        self.log: list[Any] = []

    @property
    def capacity(self) -> int:
        return self._capacity

    def submit(self, task: EvaluationTask) -> None:
        self._under_way.append(task)
        self.log.append(task)

    def next_result(self) -> EvaluationResult:
        if self.left == 0:
            self._under_way.clear()
            raise KeyboardInterrupt
        self.left -= 1
        self.waits.append(len(self._under_way))
        task = self._under_way.pop(self._random.randrange(len(self._under_way)))
        self.log.append(evaluate_safely(self._evaluate, task))
        return self.log[-1]

    def close(self) -> None:
        self._under_way.clear()


class CutOff(InProcessExecutor):
    """Evaluates in order, and interrupts after some results."""

    left = 7

    def next_result(self) -> EvaluationResult:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return super().next_result()


@pytest.mark.parametrize("sampler", STEADY)
def test_in_one_process_the_same_seed_makes_the_same_trials_however_often_it_is_cut_off(new_search, imagewise, sampler):
    config = SearchConfig(sampler=sampler, **SMALL | {"trials": 36})
    undisturbed, again, cut, other = (new_search() for _ in range(4))
    expected = undisturbed.run(config, InProcessExecutor(imagewise()))
    again.run(config, InProcessExecutor(imagewise()))
    interrupts = 0
    while interrupts < 100:
        executor = CutOff(imagewise())
        executor.left = 4
        try:
            found = cut.run(config, executor)
            break
        except KeyboardInterrupt:
            interrupts += 1
    assert interrupts >= expected.evaluated // 4 - 1
    assert undisturbed.trials == again.trials == cut.trials
    assert (found.best, found.subnet, found.stopped_early) == (expected.best, expected.subnet, expected.stopped_early)
    other.run(SearchConfig(sampler=sampler, seed=1, **SMALL | {"trials": 36}), InProcessExecutor(imagewise()))
    assert other.trials != undisturbed.trials


@pytest.mark.parametrize("fitness", FITNESSES)
@pytest.mark.parametrize("sampler", ["evolution", "random"])
def test_early_stopping_changes_neither_trials_nor_winner(new_search, imagewise, fitness, sampler):
    plain, stopping = new_search(), new_search()
    config = {"sampler": sampler, "fitness": fitness, **SMALL, "trials": 100}
    expected = plain.run(SearchConfig(early_stopping=False, **config), InProcessExecutor(imagewise()))
    found = stopping.run(SearchConfig(**config), InProcessExecutor(imagewise()))
    assert [trial[1] for trial in stopping.trials] == [trial[1] for trial in plain.trials]
    assert (found.best, found.subnet) == (expected.best, expected.subnet)
    assert found.stopped_early > 10
    assert found.images_share < 0.9


@pytest.mark.parametrize("seed", range(3))
def test_the_threshold_is_the_kth_best_of_what_has_finished_when_a_trial_is_submitted(new_search, imagewise, seed):
    executor = Disorderly(imagewise(), capacity=6, seed=seed)
    new_search().run(SearchConfig(**SMALL), executor)
    finished: list[float] = []
    thresholds = 0
    for entry in executor.log:
        if isinstance(entry, EvaluationResult):
            finished += [] if entry.score.stopped_early else [entry.score.tempered]
            continue
        assert (entry.threshold.value if entry.threshold else None) == (
            sorted(finished)[3] if len(finished) >= 4 else None
        )
        thresholds += entry.threshold is not None
    assert thresholds > 40


def test_workers_have_something_to_do_as_long_as_there_are_trials(new_search, evaluator):
    executor = Disorderly(evaluator, capacity=7)
    new_search().run(SearchConfig(**SMALL), executor)
    assert executor.waits == [7] * 54 + [6, 5, 4, 3, 2, 1]


def test_children_are_of_the_best_that_have_finished_by_then(new_search, space_maker):
    """Mutants share most genes with one parent, crossover children take every gene from some pair of parents."""
    search = new_search(space_maker(layers=40, budget={}))
    search.run(SearchConfig(mode="steady", trials=60, population=20, parents=3))
    trials = search.trials
    genes = [trial[1] for trial in trials]
    generations = 0
    for number in range(20, 60):
        ranked = sorted(range(number), key=lambda n: (trials[n][3]["tempered"], n))[:3]
        generations += max(ranked) >= 20
        child = genes[number]
        if number % 2 == 0:
            changed = min(sum(child[name] != genes[parent][name] for name in child) for parent in ranked)
            assert 0 < changed < 40, "about 0.2 of 120 genes are drawn anew, some to what they were"
        else:
            pairs = [(first, second) for first in ranked for second in ranked if first < second]
            assert any(
                all(child[name] in (genes[first][name], genes[second][name]) for name in child)
                for first, second in pairs
            )
    assert generations > 20, "children have children of their own, long before a generation is over"


@pytest.mark.parametrize("sampler", STEADY)
@pytest.mark.parametrize("seed", [0, 1])
def test_nothing_is_lost_or_done_twice_with_many_workers_and_interrupts(
    new_search, space_maker, evaluator, sampler, seed
):
    calls: Counter[str] = Counter()

    def counting(task: EvaluationTask) -> EvaluationResult:
        calls[task.subnet_digest] += 1
        if task.subnet_digest[0] == "0":
            raise EvaluationError("no memory")
        return evaluator(task)

    # Few subnets, so that some are met again, also while they are being evaluated.
    search = new_search(space_maker(layers=4, choices={"B": ["lora:2", "vector", "none"]}, budget={}))
    config = SearchConfig(sampler=sampler, max_failure_share=1.0, **SMALL)
    rounds, before = 0, []
    while True:
        try:
            outcome = search.run(config, Disorderly(counting, capacity=6, seed=seed + rounds, results=5))
            break
        except KeyboardInterrupt:
            rounds += 1
            now = search.trials
            for old, new in zip(before, now, strict=False):
                assert old[1] == new[1], "a trial keeps its subnet"
                assert old == new or old[4] == TrialState.RUNNING, "a finished trial does not change"
            before = now
    assert rounds > 3
    trials = search.trials
    assert [trial[0] for trial in trials] == list(range(60))
    assert outcome.trials == 60
    assert {trial[4] for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}
    evaluated = Counter(trial[3]["subnet"] for trial in trials if trial[3].get("origin") == "evaluated")
    assert set(evaluated.values()) == {1}
    assert outcome.evaluated == len(evaluated)
    assert outcome.reused == sum(trial[3].get("origin") == "reused" for trial in trials) > 0
    assert outcome.failed == sum(trial[4] == TrialState.FAIL for trial in trials)
    for trial in trials:
        if trial[3].get("origin") == "reused":
            source = trials[trial[3]["reused_from"]]
            assert (source[1], source[2]) == (trial[1], trial[2])
    best = min((t for t in trials if t[4] == TrialState.COMPLETE), key=lambda t: (t[2][0], -t[3]["accuracy"], t[0]))
    assert outcome.best.subnet_digest == best[3]["subnet"]


def test_children_are_not_of_those_met_before(new_search, space_maker, evaluator):
    search = new_search(space_maker(layers=6, choices={"B": ["lora:2", "vector", "none"]}, budget={}))
    outcome = search.run(SearchConfig(**SMALL | {"mutation": 0.0}), Disorderly(evaluator, capacity=3))
    assert outcome.evaluated >= 56


def test_too_many_failures_in_a_row_stop_the_search_which_can_go_on_later(new_search, evaluator):
    class Breaks:
        calls = 0

        def __call__(self, task: EvaluationTask) -> EvaluationResult:
            self.calls += 1
            if self.calls > 30:
                raise EvaluationError("out of memory")
            return evaluator(task)

    search = new_search()
    with pytest.raises(SearchError, match=r"3 of 12 evaluations failed.*out of memory"):
        search.run(SearchConfig(**SMALL), InProcessExecutor(Breaks()))
    assert [trial[4] for trial in search.trials].count(TrialState.FAIL) == 3
    outcome = search.run(SearchConfig(**SMALL))
    assert (outcome.trials, outcome.failed) == (60, 3)


def test_the_mode_is_part_of_the_study(new_search):
    search = new_search()
    search.run(SearchConfig(**SMALL))
    with pytest.raises(SearchError, match=r"search.mode was 'steady', now 'generational'"):
        search.run(SearchConfig(**SMALL | {"mode": "generational"}))


def test_steady_mode_keeps_64_workers_busy_and_generations_do_not(new_search, space_maker, evaluator):
    def utilisation(**config: Any) -> float:
        executor = SimulatedExecutor(evaluator, 64, LogNormalSeconds(sigma=0.5))
        new_search(space_maker(layers=10, choices={"B": ["lora:2", "vector", "none"]}, budget={})).run(
            SearchConfig(**config), executor
        )
        return executor.utilisation

    assert utilisation(mode="steady", trials=3_840) >= 0.95
    small, large = (utilisation(mode="generational", population=size, trials=512) for size in (50, 256))
    assert small < large < 0.8
