"""A database of every revision that was ever released is upgraded and used.

`revisions/<revision>.sql` is what `sqlite3 FILE .dump` says of the database that `fill` made at that revision. A new
migration adds the dump of its revision, made with this module's `fill`; the old ones stay as they are.
"""

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from glorasearch.db import (
    ForecastStore,
    NoteStore,
    RaceMember,
    RaceStore,
    RunState,
    RunStore,
    StageProgress,
    StageState,
    TrialStorage,
    WorkerRecord,
    WorkerStore,
)
from glorasearch.db.schema import HEAD

REVISIONS = Path(__file__).with_name("revisions")
DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "blocks.0.attn.qkv.B": CategoricalDistribution(("none", "vector", "lora:8")),
    "rate": FloatDistribution(0.0, 1.0),
}
MEMBER = RaceMember(
    candidate="c" * 64,
    fold=1,
    label="lora at 0.003",
    rung=1,
    images=4,
    correct=3,
    nats=[2.5, 1.5],
    steps=9,
    seconds=0.5,
    training="d" * 64,
    from_run="earlier",
    judged={"classes": [[3, 1], [2, 2], [2, 1]], "auc": 0.75},
)
NOW = datetime(2026, 11, 29, tzinfo=UTC)
PROGRESS = StageProgress(
    stage="train", state=StageState.FAILED, started=NOW, updated=NOW, title="supernet", done=7, total=10, first_at=NOW
)
WORKER = WorkerRecord(
    number=0, host="gpu1", process=7, ready=True, tasks=3, busy=0.5, since=NOW, updated=NOW + timedelta(seconds=1)
)
FORECAST = {"train": 12.5, "baseline": 3.0}
NOTE = "with the larger images\nand three seeds"
PARAMS = {"blocks.0.attn.qkv.B": "lora:8", "rate": 0.25}


def fill(url: str) -> None:
    """Write something into every table."""
    storage, runs = TrialStorage(url), RunStore(url)
    study_id = storage.create_new_study([StudyDirection.MAXIMIZE], "study")
    storage.set_study_user_attr(study_id, "budget", [0, None])
    trial_id = storage.create_new_trial(study_id)
    storage.set_trial_params(trial_id, PARAMS, DISTRIBUTIONS, {"parameters": 8})
    storage.finish_trial(trial_id, TrialState.COMPLETE, [0.75], {"origin": "evaluated"})
    storage.create_new_trial(study_id)
    runs.create("run", {"train": {"steps": 10}}, "digest")
    runs.set_state("run", RunState.FAILED, "out of memory")
    runs.set_stage("run", "train", {"weights": "abc"})
    runs.record_metrics("run", "train", 10, {"loss": 0.5})
    RaceStore(url).record("run", [MEMBER])
    runs.set_progress("run", PROGRESS)
    WorkerStore(url).record("run", [WORKER])
    ForecastStore(url).record("run", FORECAST)
    NoteStore(url).write("run", NOTE)


@pytest.mark.parametrize("path", sorted(REVISIONS.glob("*.sql")), ids=lambda path: path.stem)
def test_a_database_of_an_older_revision_is_upgraded_and_used(path: Path, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "old.db") as connection:
        connection.executescript(path.read_text())
    connection.close()
    url = f"sqlite:///{tmp_path}/old.db"
    storage, runs = TrialStorage(url), RunStore(url)
    study_id = storage.get_study_id_from_name("study")
    finished, running = storage.get_all_trials(study_id)
    assert (finished.params, finished.distributions, finished.values) == (PARAMS, DISTRIBUTIONS, [0.75])
    assert finished.user_attrs == {"parameters": 8, "origin": "evaluated"}
    assert storage.get_study_user_attrs(study_id) == {"budget": [0, None]}
    storage.set_trial_params(running._trial_id, PARAMS, DISTRIBUTIONS)
    run = runs.get("run")
    assert run is not None
    assert (run.config, run.state, run.error) == ({"train": {"steps": 10}}, RunState.FAILED, "out of memory")
    assert run.stages == {"train": {"weights": "abc"}}
    assert [metric.value for metric in runs.metrics("run")] == [0.5]
    races = RaceStore(url)
    before = MEMBER if path.stem >= "0011" else replace(MEMBER, judged=None)
    before = before if path.stem >= "0008" else replace(before, training=None, from_run=None)
    assert races.list("run") == ([before] if path.stem >= "0006" else [])
    races.record("run", [MEMBER])
    assert races.list("run") == [MEMBER]
    assert runs.progress("run") == ([PROGRESS] if path.stem >= "0009" else [])
    runs.set_progress("run", PROGRESS)
    assert runs.progress("run") == [PROGRESS]
    workers = WorkerStore(url)
    assert workers.list("run") == ([WORKER] if path.stem >= "0010" else [])
    workers.record("run", [WORKER])
    assert workers.list("run") == [WORKER]
    forecasts = ForecastStore(url)
    assert forecasts.of("run") == (FORECAST if path.stem >= "0012" else {})
    forecasts.record("run", FORECAST)
    assert forecasts.of("run") == FORECAST
    notes = NoteStore(url)
    assert notes.of("run").text == (NOTE if path.stem >= "0013" else "")
    assert notes.write("run", NOTE).text == notes.of("run").text == NOTE
    with runs.lock("run"):
        runs.set_state("run", RunState.FINISHED)


def test_the_newest_revision_has_its_dump() -> None:
    assert (REVISIONS / f"{HEAD}.sql").is_file()
