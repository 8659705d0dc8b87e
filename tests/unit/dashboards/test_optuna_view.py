"""Optuna's dashboard has every run from its first second, with a note that says how far it is."""

import json
import threading
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from optuna.study import StudyDirection
from PIL import Image

from dashboards import make_server
from dashboards.optuna_view import RunsView
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


def get(address: str, path: str) -> Any:
    with urllib.request.urlopen(address + path) as response:
        return json.loads(response.read())


def test_a_run_is_there_before_its_search_and_its_page_becomes_the_study(database: Database, address: str) -> None:
    (listed,) = get(address, "/api/studies")["study_summaries"]
    assert (listed["study_name"], listed["directions"]) == (f"{EVIL} · created", ["minimize"])
    page = f"/api/studies/{listed['study_id']}?after=0"
    before = get(address, page)
    assert (before["trials"], before["objective_names"]) == ([], ["tempered loss, nats"])
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
        (study,) = RunsView(database.url).get_all_studies()
        assert study.study_name == f"{EVIL} · train 40/1,400 steps"
        assert "| Stage | train 40/1,400 steps |" in study.system_attrs["dashboard:note_str:0"]
    assert TrialStorage(database).get_all_studies() == []


def test_a_note_that_somebody_wrote_stands_below_ours(database: Database) -> None:
    storage = TrialStorage(database)
    study_id = storage.create_new_study([StudyDirection.MINIMIZE], EVIL)
    for key, value in (("note_ver", 3), ("note_str:0", "keep "), ("note_str:1", "this")):
        storage.set_study_system_attr(study_id, f"dashboard:{key}", value)
    view = RunsView(database.url)
    attrs = view.get_study_system_attrs(study_id)
    assert attrs["dashboard:note_str:0"].startswith("| Run |")
    assert attrs["dashboard:note_str:0"].endswith("\n\n---\n\nkeep this")
    assert "dashboard:note_str:1" not in attrs
    assert storage.get_study_system_attrs(study_id)["dashboard:note_str:0"] == "keep "


def test_the_stage_of_a_failed_run_is_the_one_that_failed(database: Database, address: str) -> None:
    runs, now = RunStore(database), datetime.now(UTC)
    runs.set_progress(EVIL, StageProgress(stage="pilot", state=StageState.FINISHED, started=now, updated=now))
    runs.set_stage(EVIL, "pilot", {})
    later = StageProgress(stage="train", state=StageState.FAILED, started=datetime.now(UTC), updated=datetime.now(UTC))
    runs.set_progress(EVIL, later)
    runs.set_state(EVIL, RunState.FAILED, "out of memory")
    (listed,) = get(address, "/api/studies")["study_summaries"]
    note = get(address, f"/api/studies/{listed['study_id']}?after=0")["note"]["body"]
    assert "| State | failed: out of memory |" in note
    assert "| Stage | train, failed |" in note


def test_what_a_run_was_called_before_its_search_leads_to_its_study(database: Database, address: str) -> None:
    (listed,) = get(address, "/api/studies")["study_summaries"]
    storage = TrialStorage(database)
    study_id = storage.create_new_study([StudyDirection.MINIMIZE], EVIL)
    waiting = listed["study_id"]
    with urllib.request.urlopen(f"{address}/dashboard/studies/{waiting}/trials") as response:
        assert urlsplit(response.url).path == f"/dashboard/studies/{study_id}/trials"
    with urllib.request.urlopen(f"{address}/csv/{waiting}") as response:
        assert response.status == 200


def test_a_figure_without_data_says_so_and_an_unknown_one_is_not_found(address: str) -> None:
    place = f"{address}/runs/{quote(EVIL)}/figures"
    with urllib.request.urlopen(f"{place}/front.png") as response:
        assert response.headers["Content-Type"] == "image/png"
        picture = Image.open(BytesIO(response.read()))
    assert picture.size[0] > 600
    assert 0 < np.mean(np.asarray(picture.convert("L")) < 128) < 0.1
    with pytest.raises(HTTPError, match="404"):
        urllib.request.urlopen(f"{place}/fronts.png")
