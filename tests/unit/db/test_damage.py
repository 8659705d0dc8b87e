"""A damaged cell of the database names its row, and spares everything else."""

import sqlite3
from pathlib import Path

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from glorasearch.db import Database, RunStore, TrialStorage
from glorasearch.db.damage import damaged_cells
from glorasearch.errors import DamagedRowError

DISTRIBUTIONS: dict[str, BaseDistribution] = {"layer.A": CategoricalDistribution(("none", "vector"))}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Three runs with a stage each; a study with two trials for the second one."""
    path = tmp_path / "test.db"
    fill(f"sqlite:///{path}")
    return path


def fill(url: str) -> None:
    runs, storage = RunStore(url), TrialStorage(url)
    for name in ("first", "second", "third"):
        runs.create(name, {"seed": 1}, "digest")
        runs.set_stage(name, "train", {"weights": "abc"})
    study_id = storage.create_new_study([StudyDirection.MAXIMIZE], "second")
    storage.set_study_user_attr(study_id, "budget", 8)
    for _ in range(2):
        trial_id = storage.create_new_trial(study_id)
        storage.set_trial_params(trial_id, {"layer.A": "vector"}, DISTRIBUTIONS)
        storage.finish_trial(trial_id, TrialState.COMPLETE, [0.5], {})


def spoil(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("runs SET config = '{\"seed\": 1' WHERE name = 'second'", "runs, row id=2 (run 'second'), column config: "),
        ("runs SET config = '[1]' WHERE name = 'second'", "column config: '[1]': it is JSON of another kind than dict"),
        ("runs SET config = X'7B22FF22' WHERE name = 'second'", "column config: "),
        ("runs SET config = CAST(X'7B22C3FF223A317D' AS TEXT) WHERE name = 'second'", "column config: "),
        ("runs SET state = 'RUNING' WHERE name = 'second'", "column state: 'RUNING': known are created, running, fin"),
        ("runs SET created = 'yesterday' WHERE name = 'second'", "column created: 'yesterday': "),
        (
            "stages SET result = 'null' WHERE run_id = 2",
            "stages, row run_id=2, stage=train (run 'second'), column result: ",
        ),
        ("stages SET finished = '' WHERE run_id = 2", "column finished: "),
        ("runs SET error = X'FF' WHERE name = 'second'", "column error: \"b'\\\\xff'\": it is no text"),
        ("runs SET digest = X'FF' WHERE name = 'second'", "column digest: "),
        ("stages SET stage = X'FF' WHERE run_id = 2", "stage=b'\\xff' (run 'second'), column stage: "),
    ],
)
def test_a_damaged_run_is_named_and_the_others_are_listed(path: Path, change: str, named: str) -> None:
    spoil(path, f"UPDATE glorasearch_{change}")
    runs = RunStore(f"sqlite:///{path}")
    assert [run.name for run in runs.list()] == ["first", "third"]
    ((name, reason),) = runs.damaged().items()
    assert name == "second"
    assert named in reason
    assert "start 'second' over with --fresh" in reason
    with pytest.raises(DamagedRowError) as caught:
        runs.get("second")
    assert named in str(caught.value)
    assert runs.exists("second")
    runs.delete("second")
    assert (runs.damaged(), runs.exists("second")) == ({}, False)


@pytest.mark.parametrize("name", ["X'736563FF'", "CAST(X'736563FF' AS TEXT)"])
def test_a_name_that_is_none_spares_the_other_runs(path: Path, name: str) -> None:
    spoil(path, f"UPDATE glorasearch_runs SET name = {name} WHERE id = 2")
    runs = RunStore(f"sqlite:///{path}")
    assert [run.name for run in runs.list()] == ["first", "third"]
    ((shown, reason),) = runs.damaged().items()
    assert "sec" in shown
    assert "row id=2 (run " in reason
    assert "--fresh" not in reason  # which would look for the name
    reason.encode()
    assert runs.get("first") is not None
    assert runs.create("fourth", {}, "digest").name == "fourth"


def test_a_damaged_lease_spares_the_other_runs(path: Path) -> None:
    runs = RunStore(f"sqlite:///{path}")
    with runs.lock("second"):
        spoil(path, "UPDATE glorasearch_leases SET pid = 'x'")
        assert [run.name for run in runs.list()] == ["first", "third"]
        assert "delete the rows of glorasearch_leases" in runs.damaged()["second"]


def test_a_damaged_metric_is_named(path: Path) -> None:
    runs = RunStore(f"sqlite:///{path}")
    runs.record_metrics("second", "train", 3, {"loss": 0.5})
    for column in ("stage", "step", "name", "value"):
        spoil(path, f"UPDATE glorasearch_metrics SET {column} = X'FF'")
        with pytest.raises(DamagedRowError, match=rf"run 'second'\), column {column}: "):
            runs.metrics("second")
        spoil(path, "UPDATE glorasearch_metrics SET stage = 'train', step = 3, name = 'loss', value = 0.5")
    assert len(runs.metrics("second")) == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("trials SET number = 'x' WHERE number = 1", "row id=2, study_id=1, number=x (run 'second'), column number: "),
        ("trials SET revision = 1.5 WHERE number = 1", "column revision: '1.5': it is no whole number"),
        ("studies SET name = X'FF'", "column name: "),
        ("trials SET params = '{' WHERE number = 1", "row id=2, study_id=1, number=1 (run 'second'), column params: "),
        ("trials SET state = 'done' WHERE number = 1", "number=1 (run 'second'), column state: 'done': "),
        ("trials SET objectives = '0.5' WHERE number = 1", "column objectives: '0.5': "),
        ("trials SET started = 'x' WHERE number = 1", "column started: 'x': "),
        ("distributions SET distribution = 'uniform'", "study_id=1, name=layer.A, version=0 (run 'second'), column "),
        (
            "distributions SET name = 'layer.B'",
            "has parameters of which table glorasearch_distributions has no distribution",
        ),
        ("study_attributes SET value = '{'", "row study_id=1, scope=user, key=budget (run 'second'), column value: "),
        ("studies SET directions = '\"up\"'", "row id=1 (run 'second'), column directions: "),
    ],
)
def test_a_damaged_trial_is_named(path: Path, change: str, named: str) -> None:
    spoil(path, f"UPDATE glorasearch_{change}")
    storage = TrialStorage(f"sqlite:///{path}")
    with pytest.raises(DamagedRowError) as caught:
        storage.get_all_studies(), storage.get_all_trials(1)
    assert named in str(caught.value)
    assert [run.name for run in RunStore(f"sqlite:///{path}").list()] == ["first", "second", "third"]


def test_a_sound_database_has_no_damaged_cell(empty_url: str) -> None:
    fill(empty_url)
    with Database(empty_url).read() as connection:
        assert list(damaged_cells(connection)) == []


def test_many_damaged_cells_are_counted(path: Path) -> None:
    database = Database(f"sqlite:///{path}")
    spoil(path, "UPDATE glorasearch_runs SET config = '', state = ''")
    assert RunStore(database).list() == []
    with database.read() as connection:
        assert len(list(damaged_cells(connection))) == 6
    with pytest.raises(DamagedRowError, match=r"and more\. Nothing else is affected: start 'first' and 'second'"):
        RunStore(database).get("third")
