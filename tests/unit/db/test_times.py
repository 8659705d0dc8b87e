"""Times are kept in UTC: processes in other time zones, and clocks that are set back, turn nothing around."""

import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from glorasearch.db import RunStore, TrialStorage
from glorasearch.db.columns import local_now

STEP = """
import sys
from glorasearch.db import TrialStorage
from optuna.trial import TrialState
storage = TrialStorage(sys.argv[1])
if sys.argv[2] == "begin":
    storage.create_new_trial(1)
else:
    storage.set_trial_state_values(1, TrialState.COMPLETE, [1.0])
    (trial,) = storage.get_all_trials(1)
    assert trial.duration.total_seconds() >= 0
"""


def test_a_trial_that_goes_on_in_another_time_zone_does_not_end_before_it_starts(tmp_path: Path) -> None:
    url, now = f"sqlite:///{tmp_path}/test.db", datetime.now(UTC).replace(tzinfo=None)
    TrialStorage(url).create_new_study([StudyDirection.MAXIMIZE], "study")
    for zone, step in (("Pacific/Kiritimati", "begin"), ("Pacific/Honolulu", "end")):
        subprocess.run([sys.executable, "-c", STEP, url, step], env={**os.environ, "TZ": zone}, check=True)
    with sqlite3.connect(tmp_path / "test.db") as connection:
        ((started, finished),) = connection.execute("SELECT started, finished FROM glorasearch_trials")
    connection.close()
    assert now <= datetime.fromisoformat(started) <= datetime.fromisoformat(finished) < now + timedelta(minutes=10)
    (trial,) = TrialStorage(url).get_all_trials(1)
    assert trial.datetime_complete is not None
    assert abs(trial.datetime_complete - local_now()) < timedelta(minutes=10)


def test_a_clock_that_is_set_back_turns_nothing_around(database_url: str) -> None:
    storage, runs = TrialStorage(database_url), RunStore(database_url)
    later = local_now() + timedelta(hours=5)
    study_id = storage.create_new_study([StudyDirection.MAXIMIZE], "study")
    begun = create_trial(state=TrialState.WAITING)
    begun.state, begun.datetime_start = TrialState.RUNNING, later
    trial_id = storage.create_new_trial(study_id, begun)
    storage.finish_trial(trial_id, TrialState.COMPLETE, [1.0], {})
    assert storage.get_trial(trial_id).datetime_complete == later

    runs.create("run", {}, "digest")
    runs.set_stage("run", "train", {})
    with storage.database.write() as connection:
        for table, column in (("stages", "finished"), ("runs", "updated")):
            connection.exec_driver_sql(f"UPDATE glorasearch_{table} SET {column} = '2990-01-01 00:00:00.000000'")
    runs.set_stage("run", "search", {})
    runs.set_stage("run", "export", {})
    run = runs.get("run")
    assert run is not None
    assert (list(run.stages), run.updated.year) == (["train", "search", "export"], 2990)
    storage.database.close()
