"""Optuna's dashboard has every run from its first second, with a note that says how far it is."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState

from dashboards import make_server
from dashboards.optuna_view import RunsView
from dashboards.pages import Figures, Reader
from glorasearch.db import Database, RunState, RunStore, StageProgress, StageState, TrialStorage
from glorasearch.runs.config import RunConfig

EVIL = "a<script>_b"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = Database(f"sqlite:///{tmp_path}/glorasearch.db")
    config = RunConfig.model_validate(
        {"backbone": {"name": "quickstart"}, "data": {"source": "digits"}, "space": {"name": "lean"}}
    )
    RunStore(found).create(EVIL, config.model_dump(mode="json"), "d" * 64)
    yield found
    found.close()


@pytest.fixture
def address(database: Database) -> Iterator[str]:
    with make_server(database.url, port=0) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        yield f"http://127.0.0.1:{server.port}"
        server.stop()
        thread.join()


def view_of(database: Database) -> RunsView:
    reader = Reader(database.url)
    return RunsView(reader, Figures(reader))


def get(address: str, path: str) -> Any:
    with urllib.request.urlopen(address + path) as response:
        return json.loads(response.read())


def test_a_run_is_there_before_its_search_and_its_page_becomes_the_study(database: Database, address: str) -> None:
    (listed,) = get(address, "/api/studies")["study_summaries"]
    assert (listed["study_name"], listed["directions"]) == (f"{EVIL} · created", ["minimize"])
    page = f"/api/studies/{listed['study_id']}?after=0"
    before = get(address, page)
    assert (before["trials"], before["objective_names"]) == ([], ["tempered cross-entropy, nats"])
    note = before["note"]["body"]
    assert "| Run | a\\<script\\>\\_b |" in note
    assert "| Backbone | quickstart |\n| Data | digits |" in note
    assert "(/runs/a%3Cscript%3E_b)" in note
    storage = TrialStorage(database)
    study_id = storage.create_new_study([StudyDirection.MINIMIZE], EVIL)
    storage.create_new_trial(study_id)
    assert [one["study_id"] for one in get(address, "/api/studies")["study_summaries"]] == [study_id]
    assert get(address, page)["note"]["body"].startswith("| Run |")


def test_the_note_says_the_stage_and_nothing_is_written_by_reading_it(database: Database) -> None:
    runs, now = RunStore(database), datetime.now(UTC)
    with runs.lock(EVIL):
        row = StageProgress(
            stage="train", state=StageState.RUNNING, started=now, updated=now, title="supernet", done=40, total=1400
        )
        runs.set_state(EVIL, RunState.RUNNING)
        runs.set_progress(EVIL, row)
        (study,) = view_of(database).get_all_studies()
        assert study.study_name == f"{EVIL} · train 40/1,400 steps"
        assert "| Stage | train 40/1,400 steps |" in study.system_attrs["dashboard:note_str:0"]
    assert TrialStorage(database).get_all_studies() == []


def test_a_note_that_somebody_wrote_stands_below_ours(database: Database) -> None:
    storage = TrialStorage(database)
    study_id = storage.create_new_study([StudyDirection.MINIMIZE], EVIL)
    for key, value in (("note_ver", 3), ("note_str:0", "keep "), ("note_str:1", "this")):
        storage.set_study_system_attr(study_id, f"dashboard:{key}", value)
    view = view_of(database)
    attrs = view.get_study_system_attrs(study_id)
    assert attrs["dashboard:note_str:0"].startswith("| Run |")
    assert attrs["dashboard:note_str:0"].endswith("\n\n---\n\nkeep this")
    assert "dashboard:note_str:1" not in attrs
    assert storage.get_study_system_attrs(study_id)["dashboard:note_str:0"] == "keep "


def test_the_note_of_a_run_that_ended_names_the_stage_in_which_it_did(database: Database) -> None:
    runs, now = RunStore(database), datetime.now(UTC)
    view = view_of(database)
    with runs.lock(EVIL):
        for stage, state in (("train", StageState.FINISHED), ("search", StageState.FAILED)):
            row = StageProgress(stage=stage, state=state, started=now, updated=now, title="", done=7, total=64)
            runs.set_progress(EVIL, row)
        runs.set_state(EVIL, RunState.FAILED, "no memory")
    (study,) = view.get_all_studies()
    assert study.study_name == f"{EVIL} · failed"
    note = study.system_attrs["dashboard:note_str:0"]
    assert "| State | failed: no memory |\n| Stage | search 7/64 trials, failed |" in note


def test_addresses_of_before_the_search_lead_to_the_study(database: Database, address: str) -> None:
    (listed,) = get(address, "/api/studies")["study_summaries"]
    before = listed["study_id"]
    storage = TrialStorage(database)
    study_id = storage.create_new_study([StudyDirection.MINIMIZE], EVIL)
    storage.set_trial_state_values(storage.create_new_trial(study_id), TrialState.COMPLETE, [0.5])
    with urllib.request.urlopen(f"{address}/dashboard/studies/{before}/note") as page:
        assert page.url == f"{address}/dashboard/studies/{study_id}/note"
    with urllib.request.urlopen(f"{address}/csv/{before}") as table:
        assert len(table.read().splitlines()) == 2  # the names of the columns, and the trial


def test_only_the_study_that_is_asked_for_has_its_figures_in_the_note(database: Database, address: str) -> None:
    RunStore(database).record_metrics(EVIL, "train", 0, {"loss": 2.0, "lr": 0.01})
    RunStore(database).record_metrics(EVIL, "train", 1, {"loss": 1.0, "lr": 0.01})
    (study,) = view_of(database).get_all_studies()
    assert "/figures/" not in study.system_attrs["dashboard:note_str:0"]
    note = get(address, f"/api/studies/{study._study_id}?after=0")["note"]["body"]
    picture = "/runs/a%3Cscript%3E_b/figures/losses.png"
    assert f"]({picture})" in note
    with urllib.request.urlopen(address + picture) as response:
        assert response.headers["Content-Type"] == "image/png"
        assert response.read().startswith(b"\x89PNG")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(address + picture.replace("losses", "race"))
