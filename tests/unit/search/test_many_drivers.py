"""Several drivers, each a process, on one database: different studies at once, and never two on the same study."""

import multiprocessing
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from glorasearch.db import TrialStorage
from glorasearch.errors import RunLockedError
from glorasearch.search import InProcessExecutor, SearchConfig, SearchDriver
from glorasearch.space import BoundSpace, EvaluationResult, EvaluationTask

DEADLINE_SECONDS = 120.0
Evaluate = Callable[[EvaluationTask], EvaluationResult]
fork = multiprocessing.get_context("fork")


class Drivers:
    """Searches of one space on one database."""

    def __init__(self, url: str, space: BoundSpace, evaluate: Evaluate) -> None:
        self.url, self.space, self.evaluate = url, space, evaluate

    def driver(self, storage: TrialStorage, study: str, seed: int, evaluate: Evaluate | None = None) -> SearchDriver:
        config = SearchConfig(trials=24, population=8, parents=3, seed=seed)
        executor = InProcessExecutor(evaluate or self.evaluate)
        return SearchDriver(self.space, storage, executor, "weights", study, config)

    def run(self, study: str, seed: int, evaluate: Evaluate | None = None) -> None:
        """A whole search, with connections of its own."""
        storage = TrialStorage(self.url)
        self.driver(storage, study, seed, evaluate).run()
        storage.database.close()

    def trials(self, study: str) -> list[Any]:
        storage = TrialStorage(self.url)
        trials = storage.get_all_trials(storage.get_study_id_from_name(study), deepcopy=False)
        storage.database.close()
        return [(trial.number, trial.state, trial.params, trial.values, trial.user_attrs) for trial in trials]

    def start(self, *arguments: Any) -> Any:
        """A search in a process of its own."""
        process = fork.Process(target=self.run, args=arguments)
        process.start()
        return process


@pytest.fixture
def drivers(database_url: str, space_maker: Callable[..., BoundSpace], evaluator: Evaluate) -> Drivers:
    return Drivers(database_url, space_maker(), evaluator)


@pytest.fixture
def alone(tmp_path: Path, drivers: Drivers) -> Drivers:
    """The same searches in a database of their own."""
    (tmp_path / "alone").mkdir()
    return Drivers(f"sqlite:///{tmp_path}/alone/study.db", drivers.space, drivers.evaluate)


def test_drivers_of_different_studies_do_not_disturb_each_other(drivers: Drivers, alone: Drivers) -> None:
    processes = [drivers.start(f"study-{seed}", seed) for seed in range(4)]
    for process in processes:
        process.join(DEADLINE_SECONDS)
    assert [process.exitcode for process in processes] == [0] * 4
    for seed in range(4):
        alone.run(f"study-{seed}", seed)
        assert drivers.trials(f"study-{seed}") == alone.trials(f"study-{seed}")


class Waits:
    """An evaluator that reports its third evaluation, and waits there for `go_on`."""

    def __init__(self, evaluate: Evaluate) -> None:
        self.evaluate, self.calls = evaluate, 0
        self.reached, self.go_on = fork.Event(), fork.Event()

    def __call__(self, task: EvaluationTask) -> EvaluationResult:
        self.calls += 1
        if self.calls == 3:
            self.reached.set()
            assert self.go_on.wait(DEADLINE_SECONDS)
        return self.evaluate(task)


def test_a_second_driver_is_refused_and_a_dead_one_holds_on_to_nothing(drivers: Drivers, alone: Drivers) -> None:
    waiting = Waits(drivers.evaluate)
    first = drivers.start("study", 1, waiting)
    assert waiting.reached.wait(DEADLINE_SECONDS)
    with pytest.raises(RunLockedError, match=rf"study 'study' is being worked on by process {first.pid} on "):
        drivers.run("study", 1)
    first.kill()
    first.join(DEADLINE_SECONDS)

    drivers.run("study", 1)

    alone.run("study", 1)
    assert drivers.trials("study") == alone.trials("study")


def test_a_driver_that_was_paused_and_replaced_does_no_harm(drivers: Drivers, alone: Drivers) -> None:
    """Its lease is deleted by hand, as an operator does who is sure that the driver is gone."""
    waiting = Waits(drivers.evaluate)
    failures: list[str] = []

    def first() -> None:
        try:
            drivers.run("study", 1, waiting)
        except RunLockedError as error:
            failures.append(str(error))

    thread = threading.Thread(target=first)
    thread.start()
    assert waiting.reached.wait(DEADLINE_SECONDS)
    storage = TrialStorage(drivers.url)
    with storage.database.write(fenced=False) as connection:
        connection.execute(text("DELETE FROM glorasearch_leases WHERE name = 'study:study'"))
    drivers.driver(storage, "study", 1).run()
    found = drivers.trials("study")
    waiting.go_on.set()
    thread.join(DEADLINE_SECONDS)

    assert len(failures) == 1
    assert "study 'study' was released by somebody else while this process was paused or cut off" in failures[0]
    alone.run("study", 1)
    assert found == drivers.trials("study") == alone.trials("study")
