"""What SQLite and PostgreSQL do differently, on a real PostgreSQL server."""

import math
import threading
from collections.abc import Callable, Iterator

import pytest
from optuna.distributions import CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import text

from glorasearch.db import RunStore, SummarisingStorage, TrialStorage
from glorasearch.errors import DatabaseError, RunLockedError


@pytest.fixture
def storage(postgresql_url: str) -> Iterator[TrialStorage]:
    storage = TrialStorage(postgresql_url)
    yield storage
    storage.database.close()


def together(work: Callable[[int], None], count: int) -> None:
    """Do the work in threads, and raise what they raise."""
    errors: list[BaseException] = []

    def run(index: int) -> None:
        try:
            work(index)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_writers_of_one_study_do_not_disturb_each_other(storage: TrialStorage) -> None:
    study_id = storage.create_new_study([StudyDirection.MAXIMIZE])
    gene = CategoricalDistribution(("none", "vector"))

    def work(seed: int) -> None:
        own = TrialStorage(storage.database.url)
        for index in range(15):
            trial_id = own.create_new_trial(study_id)
            params = {"shared": "none", f"own.{seed}": "vector"}
            own.set_trial_params(trial_id, params, dict.fromkeys(params, gene))
            own.finish_trial(trial_id, TrialState.COMPLETE, [math.inf], {"seed": seed})
            own.set_study_user_attr(study_id, f"key.{index}", seed)
        own.database.close()

    together(work, 4)
    trials = storage.get_all_trials(study_id)
    assert [trial.number for trial in trials] == list(range(60))
    assert all(trial.params == {"shared": "none", f"own.{trial.user_attrs['seed']}": "vector"} for trial in trials)
    assert len(storage.get_study_user_attrs(study_id)) == 15
    with storage.database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM glorasearch_distributions")).scalar() == 5


def test_runs_work_as_on_sqlite(storage: TrialStorage) -> None:
    store = RunStore(storage.database)
    store.create("run", {"limit": math.inf, "text": "\0"}, "digest")
    store.set_stage("run", "train", {"loss": math.nan})
    store.record_metrics("run", "train", 1, {"loss": math.nan, "rate": math.inf})
    store.record_metrics("run", "train", 1, {"loss": 2.0})
    assert [(metric.name, metric.value) for metric in store.metrics("run")] == [("loss", 2.0), ("rate", math.inf)]
    with store.lock("run"):
        with pytest.raises(RunLockedError), store.lock("run"):
            pass
        run = store.get("run")
        assert run is not None
        assert run.config == {"limit": math.inf, "text": "\0"}
        assert math.isnan(run.stages["train"]["loss"])
    store.delete("run")
    assert store.list() == []


def test_the_dashboards_view_reads_and_cannot_write(storage: TrialStorage) -> None:
    study_id = storage.create_new_study([StudyDirection.MAXIMIZE])
    trial_id = storage.create_new_trial(study_id)
    storage.set_trial_params(trial_id, {"fc.A": "vector"}, {"fc.A": CategoricalDistribution(("none", "vector"))})
    storage.finish_trial(trial_id, TrialState.COMPLETE, [1.0], {})
    view = SummarisingStorage(storage.database)
    assert view.get_trial(trial_id).params["A: share of vector"] == 1.0
    with pytest.raises(DatabaseError, match="read-only transaction"), view.database.read() as connection:
        connection.execute(text("DELETE FROM glorasearch_studies"))
    view.database.close()
