"""A search that is cut off, anywhere and as often as one likes, makes the trials of an undisturbed one."""

from typing import Any

import pytest
from optuna.trial import TrialState

from glorasearch.db import TrialStorage
from glorasearch.errors import EvaluationError
from glorasearch.search import SAMPLERS, InProcessExecutor, SearchConfig
from glorasearch.space import EvaluationResult, EvaluationTask

SMALL = {"trials": 28, "population": 8, "parents": 3, "batch": 7}
WRITES = (
    "create_new_study",
    "set_study_user_attr",
    "set_study_system_attr",
    "create_new_trial",
    "create_trials",
    "set_trial_params",
    "set_trial_system_attr",
    "finish_trial",
)


class CutOffStorage(TrialStorage):
    """Interrupts the process after so many writes, as if it were killed there."""

    def __init__(self, database: Any, writes: int) -> None:
        super().__init__(database)
        self.left = writes


def _counted(name: str) -> Any:
    def write(self: CutOffStorage, *args: Any, **kwargs: Any) -> Any:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return getattr(TrialStorage, name)(self, *args, **kwargs)

    return write


for _name in WRITES:
    setattr(CutOffStorage, _name, _counted(_name))


class CutOffExecutor(InProcessExecutor):
    """Interrupts the process instead of giving one more result."""

    def __init__(self, evaluate: Any, results: int, capacity: int) -> None:
        super().__init__(evaluate)
        self.left = results
        self._capacity = capacity

    @property
    def capacity(self) -> int:
        return self._capacity

    def next_result(self) -> EvaluationResult:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return super().next_result()


def outcome_of(outcome: Any) -> Any:
    return outcome.best, outcome.subnet, outcome.pareto, outcome.evaluated, outcome.reused, outcome.failed


def until_done(run: Any) -> tuple[Any, int]:
    for interrupts in range(1_000):
        try:
            return run(), interrupts
        except KeyboardInterrupt:
            continue
    raise AssertionError("the search does not get on")


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("results", [1, 3, 10])
def test_cut_off_after_results(new_search, evaluator, sampler, results):
    config = SearchConfig(sampler=sampler, **SMALL)
    undisturbed, disturbed = new_search(), new_search()
    expected = undisturbed.run(config)
    found, interrupts = until_done(lambda: disturbed.run(config, CutOffExecutor(evaluator, results, capacity=3)))
    assert interrupts >= expected.evaluated // results - 1
    assert disturbed.trials == undisturbed.trials
    assert outcome_of(found) == outcome_of(expected)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("writes", [1, 5])
def test_cut_off_between_any_two_writes(new_search, space_maker, evaluator, sampler, writes):
    def failing(task: EvaluationTask) -> EvaluationResult:
        if task.subnet_digest[0] in "0123":
            raise EvaluationError("never works")
        return evaluator(task)

    # Few subnets, so that some are met again, in the same batch and in others.
    space = space_maker(layers=3, choices={"B": ["lora:2", "vector", "none"]})
    config = SearchConfig(sampler=sampler, max_failure_share=1.0, **SMALL)
    writes += sampler == "tpe"  # it writes a note into a trial before it is sampled, and does so again after a restart
    undisturbed, disturbed = new_search(space), new_search(space)
    expected = undisturbed.run(config, InProcessExecutor(failing))
    assert expected.reused
    assert expected.failed
    found, interrupts = until_done(
        lambda: disturbed.run(config, InProcessExecutor(failing), storage=CutOffStorage(disturbed.database, writes))
    )
    # Evolution stores a generation at once; the others create each trial, and then set its parameters.
    assert interrupts > (28 // writes if sampler == "evolution" else 28 * 3 // writes - 10)
    assert disturbed.trials == undisturbed.trials
    assert outcome_of(found) == outcome_of(expected)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_trials_that_were_made_and_never_sampled(new_search, sampler):
    config = SearchConfig(sampler=sampler, **SMALL)
    undisturbed, disturbed = new_search(), new_search()
    undisturbed.run(config)
    disturbed.run(SearchConfig(sampler=sampler, **SMALL | {"trials": config.batch_size}))
    storage = TrialStorage(disturbed.database)
    for _ in range(4):
        storage.create_new_trial(storage.get_study_id_from_name("study"))
    assert [trial[4] for trial in disturbed.trials].count(TrialState.RUNNING) == 4
    disturbed.run(config)
    assert disturbed.trials == undisturbed.trials


def test_the_same_driver_can_go_on_after_an_interrupt(new_search, evaluator):
    undisturbed, disturbed = new_search(), new_search()
    undisturbed.run(SearchConfig(**SMALL))
    executor = CutOffExecutor(evaluator, 11, capacity=3)
    driver = disturbed.driver(SearchConfig(**SMALL), executor)
    with pytest.raises(KeyboardInterrupt):
        driver.run()
    executor.left = 100
    assert driver.run().trials == 28
    assert disturbed.trials == undisturbed.trials


@pytest.mark.parametrize("sampler", ["evolution", "random"])
@pytest.mark.parametrize("lag", [1, 5])
def test_thresholds_are_the_same_wherever_the_search_was_cut_off(new_search, imagewise, sampler, lag):
    config = SearchConfig(sampler=sampler, early_stopping_lag=lag, **SMALL | {"trials": 60})
    undisturbed, in_results, in_writes = new_search(), new_search(), new_search()
    expected = undisturbed.run(config, InProcessExecutor(imagewise()))
    assert expected.stopped_early > 5
    one, _ = until_done(lambda: in_results.run(config, CutOffExecutor(imagewise(), 3, capacity=4)))
    other, interrupts = until_done(
        lambda: in_writes.run(config, InProcessExecutor(imagewise()), storage=CutOffStorage(in_writes.database, 5))
    )
    assert interrupts >= 60 // 5
    assert undisturbed.trials == in_results.trials == in_writes.trials
    assert outcome_of(expected) == outcome_of(one) == outcome_of(other)
    assert expected.stopped_early == one.stopped_early == other.stopped_early
    assert expected.images_share == one.images_share == other.images_share
