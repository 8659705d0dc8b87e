import random
from collections import Counter

import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState

from glorasearch.db import TrialStorage
from glorasearch.errors import EvaluationError, SearchError, SearchSpaceError
from glorasearch.search import SAMPLERS, InProcessExecutor, SearchConfig, SearchDriver, SearchProgress
from glorasearch.space import BoundSpace, EvaluationResult, EvaluationTask, Score, Subnet

SMALL = {"trials": 40, "population": 12, "parents": 4, "batch": 8}


class OutOfOrder(InProcessExecutor):
    """Has several tasks under way and answers them in an order of its own."""

    capacity = 5

    def next_result(self) -> EvaluationResult:
        random.Random(len(self._waiting)).shuffle(self._waiting)
        return super().next_result()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_trials_do_not_depend_on_the_order_of_results(new_search, evaluator, sampler):
    config = SearchConfig(sampler=sampler, **SMALL)
    first, second = new_search(), new_search()
    expected, found = first.run(config), second.run(config, OutOfOrder(evaluator))
    assert first.trials == second.trials
    assert (found.best, found.subnet, found.pareto) == (expected.best, expected.subnet, expected.pareto)
    third = new_search()
    third.run(SearchConfig(sampler=sampler, seed=1, **SMALL))
    assert [trial[1] for trial in third.trials] != [trial[1] for trial in first.trials]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_trial_stores_its_subnet_and_scores_within_the_budget(new_search, evaluator, sampler):
    search = new_search()
    outcome = search.run(SearchConfig(sampler=sampler, **SMALL))
    assert [trial[0] for trial in search.trials] == list(range(40))
    for _, params, values, attrs, state in search.trials:
        subnet = search.space.subnet(params[gene.name] for gene in search.space.genes)
        score = evaluator(EvaluationTask(subnet.to_json(), subnet.digest, "weights")).score
        assert state == TrialState.COMPLETE
        assert attrs["subnet"] == subnet.digest
        assert attrs["parameters"] == search.space.parameters(subnet) <= 900
        assert (attrs["correct"], attrs["total"], attrs["cross_entropy"]) == (score.correct, 200, score.cross_entropy)
        assert attrs["accuracy"] == score.accuracy
        assert (attrs["tempered"], attrs["temperature"]) == (score.tempered, score.temperature)
        assert attrs["seconds"] == (0.5 if attrs["origin"] == "evaluated" else 0)
        expected = [attrs["accuracy"], attrs["parameters"]] if sampler == "nsga2" else [attrs["tempered"]]
        assert values == expected
    best = min(search.trials, key=lambda trial: (trial[3]["tempered"], -trial[3]["accuracy"], trial[0]))
    assert (outcome.best.number, outcome.subnet.digest) == (best[0], best[3]["subnet"])
    assert outcome.evaluation_seconds == 0.5 * outcome.evaluated
    for record in outcome.pareto:
        assert not any(
            trial[3]["accuracy"] >= record.score.accuracy
            and trial[3]["parameters"] <= record.parameters
            and (trial[3]["accuracy"], trial[3]["parameters"]) != (record.score.accuracy, record.parameters)
            for trial in search.trials
        )


def test_accuracy_with_ties_broken_by_cross_entropy(new_search):
    def coarse(task: EvaluationTask) -> EvaluationResult:
        one, other = int(task.subnet_digest[1], 16), int(task.subnet_digest[2], 16)
        score = Score(150 + int(task.subnet_digest[0] < "8"), 200, one, tempered=other, beta=1.0)
        return EvaluationResult(task.subnet_digest, score)

    search = new_search()
    outcome = search.run(SearchConfig(fitness="accuracy", **SMALL), InProcessExecutor(coarse))
    assert outcome.best.score.correct == 151
    assert outcome.best.score.cross_entropy == min(
        t[3]["cross_entropy"] for t in search.trials if t[3]["correct"] == 151
    )


def test_a_subnet_met_before_is_not_evaluated_again(new_search, space_maker, evaluator):
    space = space_maker(layers=2, choices={"B": ["lora:2", "vector", "none"]}, budget={})
    calls: Counter[str] = Counter()

    def counting(task: EvaluationTask) -> EvaluationResult:
        calls[task.subnet_digest] += 1
        return evaluator(task)

    for sampler in SAMPLERS:
        calls.clear()
        search = new_search(space)
        outcome = search.run(SearchConfig(sampler=sampler, **SMALL), OutOfOrder(counting))
        assert set(calls.values()) == {1}
        assert outcome.evaluated == len(calls) <= 9
        assert (outcome.trials, outcome.reused, outcome.failed) == (40, 40 - len(calls), 0)
        for number, params, values, attrs, _ in search.trials:
            if attrs["origin"] == "reused":
                source = search.trials[attrs["reused_from"]]
                assert source[0] < number
                assert (source[1], source[2], source[3]["origin"]) == (params, values, "evaluated")


def test_a_space_of_one_subnet(new_search, space_maker):
    search = new_search(space_maker(choices={"B": ["lora:2"]}, budget={}))
    outcome = search.run(SearchConfig(trials=3))
    assert (outcome.evaluated, outcome.reused) == (1, 2)
    assert outcome.subnet == search.space.smallest()


def test_progress_after_every_trial(new_search):
    seen: list[SearchProgress] = []
    outcome = new_search().run(SearchConfig(**SMALL), on_progress=seen.append)
    assert [event.done for event in seen] == list(range(1, 41))
    assert all(event.trials == 40 for event in seen)
    fitness = [event.best_fitness for event in seen]
    assert fitness == sorted(fitness, reverse=True)
    assert fitness[-1] == outcome.best.score.tempered
    assert seen[-1].best == outcome.best


def test_more_trials_go_on_where_the_search_ended(new_search):
    first, second = new_search(), new_search()
    for trials in (1, 17, 40):
        shorter = first.run(SearchConfig(**SMALL | {"trials": trials}))
        assert shorter.trials == trials
    second.run(SearchConfig(**SMALL))
    assert first.trials == second.trials


def test_failures_are_trials_with_their_reason(new_search, evaluator):
    def failing(task: EvaluationTask) -> EvaluationResult:
        if task.subnet_digest[0] == "0":
            raise EvaluationError("no memory")
        if task.subnet_digest[0] == "1":
            return EvaluationResult(task.subnet_digest, Score(1, 2, float("nan"), float("nan"), 1.0))
        return evaluator(task)

    search = new_search()
    outcome = search.run(SearchConfig(**SMALL, max_failure_share=0.9), InProcessExecutor(failing))
    reasons = {attrs["subnet"][0]: attrs["reason"] for *_, attrs, state in search.trials if state == TrialState.FAIL}
    assert reasons == {"0": "no memory", "1": "the mean cross-entropy is nan"}
    assert outcome.failed == sum(trial[4] == TrialState.FAIL for trial in search.trials)
    assert outcome.trials == 40


@pytest.mark.parametrize("config", [SearchConfig(**SMALL), SearchConfig(sampler="random", **SMALL | {"batch": 2})])
def test_too_many_failures_stop_the_search_which_can_go_on_later(new_search, config):
    def failing(task: EvaluationTask) -> EvaluationResult:
        raise EvaluationError("out of memory" if task.subnet_digest[0] < "e" else "bad luck")

    search = new_search()
    with pytest.raises(SearchError, match=r"evaluations failed.*the commonest reason: out of memory"):
        search.run(config, InProcessExecutor(failing))
    failed = sum(trial[4] == TrialState.FAIL for trial in search.trials)
    assert failed <= 10
    outcome = search.run(config)
    assert (outcome.trials, outcome.failed) == (40, failed)


def test_if_nothing_succeeds_there_is_no_winner(new_search):
    def failing(task: EvaluationTask) -> EvaluationResult:
        raise EvaluationError("broken")

    with pytest.raises(SearchError, match=r"none of 3 trials could be evaluated.*broken \(3 of 3 failures\)"):
        new_search().run(SearchConfig(trials=3), InProcessExecutor(failing))


def test_a_bug_fails_every_trial_and_so_stops_the_search(new_search):
    def buggy(task: EvaluationTask) -> EvaluationResult:
        raise ZeroDivisionError

    search = new_search()
    with pytest.raises(SearchError, match=r"3 of 12 evaluations failed.*ZeroDivisionError"):
        search.run(SearchConfig(**SMALL), InProcessExecutor(buggy))
    states = [trial[4] for trial in search.trials]
    assert (states.count(TrialState.FAIL), states.count(TrialState.RUNNING)) == (3, 9)
    assert search.run(SearchConfig(**SMALL)).failed == 3


def test_a_study_of_another_search_is_refused(new_search, space_maker, evaluator):
    search = new_search()
    search.run(SearchConfig(**SMALL), split_digest="split")
    with pytest.raises(SearchError, match=r"search.parents was 4, now 5; search.seed was 0, now 2"):
        search.run(SearchConfig(**SMALL | {"parents": 5}, seed=2), split_digest="split")
    with pytest.raises(SearchError, match="weights_digest was 'weights', now 'others'"):
        search.run(SearchConfig(**SMALL), weights="others", split_digest="split")
    with pytest.raises(SearchError, match="split_digest was 'split', now 'other split'"):
        search.run(SearchConfig(**SMALL), split_digest="other split")
    search.space = space_maker(budget={"max": 800})
    with pytest.raises(SearchError, match=r"budget was \[0, 900\], now \[0, 800\]"):
        search.run(SearchConfig(**SMALL), split_digest="split")
    search.space = space_maker(layers=5)
    with pytest.raises(SearchError, match="space_digest was"):
        search.run(SearchConfig(**SMALL), split_digest="split")


def test_a_study_made_by_others_is_refused(new_search):
    search = new_search()
    storage = TrialStorage(search.database)
    storage.create_new_trial(storage.create_new_study([StudyDirection.MAXIMIZE], "study"))
    with pytest.raises(SearchError, match="trials that were not made by this search"):
        search.driver(SearchConfig())


def test_another_writer_is_noticed(new_search, evaluator):
    search = new_search()
    storage = TrialStorage(search.database)

    def meddling(task: EvaluationTask) -> EvaluationResult:
        storage.create_new_trial(storage.get_study_id_from_name("study"))
        return evaluator(task)

    with pytest.raises(SearchError, match="another process writes to the study"):
        search.run(SearchConfig(**SMALL), InProcessExecutor(meddling))


def test_an_infeasible_budget_is_refused_at_once_with_the_feasible_range(new_search, space_maker):
    fine = space_maker()
    space = BoundSpace("small", fine.layers, fine.genes, budget=(10**6, 10**7))
    with pytest.raises(SearchSpaceError, match=r"between 1,000,000 and 10,000,000.*reaches from 0 to 1,9"):
        new_search(space).driver(SearchConfig())


def test_a_result_that_nobody_asked_for_is_thrown_away(new_search, evaluator):
    executor = InProcessExecutor(evaluator)
    stray = Subnet({("elsewhere", "B"): "lora:2"})
    executor.submit(EvaluationTask(stray.to_json(), stray.digest, "weights"))
    first, second = new_search(), new_search()
    first.run(SearchConfig(**SMALL), executor)
    second.run(SearchConfig(**SMALL))
    assert first.trials == second.trials


def test_config_is_reached_through_the_driver():
    assert SearchDriver.Config is SearchConfig


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_duplicates_do_not_make_trials_depend_on_how_many_are_under_way(new_search, space_maker, evaluator, sampler):
    """What is known already is recorded only once the whole batch is sampled."""
    space = space_maker(layers=2, choices={"B": ["lora:2", "vector", "none"]}, budget={})
    first, second = new_search(space), new_search(space)
    config = SearchConfig(sampler=sampler, **SMALL)
    first.run(config)
    second.run(config, OutOfOrder(evaluator))
    assert [trial[:3] for trial in first.trials] == [trial[:3] for trial in second.trials]


def test_the_first_of_a_batch_are_evaluated_while_the_others_are_sampled(new_search, evaluator):
    search, sampled = new_search(), []

    class Submitting(OutOfOrder):
        def submit(self, task: EvaluationTask) -> None:
            sampled.append(len(search.trials))
            super().submit(task)

    search.run(SearchConfig(**SMALL), Submitting(evaluator))
    assert sampled[0] == 5, "as many as are under way"
    assert sampled[5] == SMALL["population"]
