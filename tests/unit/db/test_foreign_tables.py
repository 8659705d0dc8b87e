"""Other programs may have tables in the same database: Optuna's own storage adds those that it misses."""

import sqlite3
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from sqlalchemy import create_engine

from glorasearch.db import RunStore, TrialStorage
from glorasearch.db.schema import upgrade

REVISIONS = Path(__file__).with_name("revisions")


def use(url: str, name: str) -> None:
    """Write runs and trials, and delete them again."""
    runs, storage = RunStore(url), TrialStorage(url)
    runs.create(name, {"a": 1}, "digest")
    runs.set_stage(name, "train", {"weights": "abc"})
    study_id = storage.create_new_study([StudyDirection.MAXIMIZE], name)
    storage.create_new_trial(study_id)
    storage.delete_study(study_id)
    runs.delete(name)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("glorasearch.")]


def test_plain_optuna_and_glorasearch_use_one_database(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    storage = TrialStorage(database_url)
    study_id = storage.create_new_study([StudyDirection.MAXIMIZE], "ours")
    study = optuna.create_study(storage=RDBStorage(database_url), study_name="theirs")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    use(database_url, "run")
    assert [found.study_name for found in TrialStorage(database_url).get_all_studies()] == ["ours"]
    assert optuna.get_all_study_names(RDBStorage(database_url)) == ["theirs"]
    assert not said(caplog)
    storage.delete_study(study_id)
    assert len(optuna.load_study(storage=RDBStorage(database_url), study_name="theirs").trials) == 2


def test_a_database_that_optuna_made_is_used_and_its_tables_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    optuna.create_study(storage=RDBStorage(url), study_name="theirs")
    use(url, "run")
    (message,) = said(caplog)
    assert "holds tables of another program, too (alembic_version, studies, " in message
    assert "begin with glorasearch_" in message
    assert optuna.get_all_study_names(RDBStorage(url)) == ["theirs"]


def test_a_database_that_optuna_has_broken_is_mended(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Before revision 0007 our tables had Optuna's names: what it added referred to columns that ours do not have."""
    with sqlite3.connect(tmp_path / "old.db") as connection:
        connection.executescript((REVISIONS / "0006.sql").read_text())
        ids = dict(connection.execute("SELECT name, seq FROM sqlite_sequence"))
    connection.close()
    url = f"sqlite:///{tmp_path}/old.db"
    with pytest.raises(optuna.exceptions.StorageInternalError):
        optuna.get_all_study_names(RDBStorage(url, skip_table_creation=False))
    with sqlite3.connect(tmp_path / "old.db") as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        with pytest.raises(sqlite3.OperationalError, match="foreign key mismatch"):
            connection.execute("DELETE FROM studies")
    connection.close()
    use(url, "another")
    assert "study_directions" in said(caplog)[0]
    assert [run.name for run in RunStore(url).list()] == ["run"]
    storage = TrialStorage(url)
    assert len(storage.get_all_trials(storage.get_study_id_from_name("study"))) == 2
    assert storage.create_new_study([StudyDirection.MAXIMIZE], "third") > ids["studies"] + 1  # `use` had one, too
    storage.database.close()
    with sqlite3.connect(tmp_path / "old.db") as connection:
        assert connection.execute("PRAGMA foreign_key_check(glorasearch_trials)").fetchall() == []
    connection.close()


def test_ids_of_deleted_studies_are_not_used_again_after_the_migration(empty_url: str) -> None:
    engine = create_engine(empty_url)
    with engine.begin() as connection:
        upgrade(connection, "0006")
        for name in ("a", "b"):
            connection.exec_driver_sql(
                f"INSERT INTO studies (name, directions, trial_count) VALUES ('{name}', '[]', 0)"
            )
        connection.exec_driver_sql("DELETE FROM studies")
    engine.dispose()
    storage = TrialStorage(empty_url)
    assert storage.create_new_study([StudyDirection.MAXIMIZE], "c") == 3
    storage.database.close()
