"""Recognising and forgetting runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from optuna.study import StudyDirection

from glorasearch.db import Database, RunState, RunStore, TrialStorage
from glorasearch.errors import ConfigError, InputError
from glorasearch.runs.config import RunConfig
from glorasearch.runs.records import (
    check_export_path,
    differences,
    export_path,
    finished_result,
    forget_run,
    open_run,
    recognise,
)
from glorasearch.runs.workspace import Workspace

REQUIRED: dict[str, Any] = {"name": "mine", "backbone": {"name": "vit"}, "data": {"source": "digits"}}


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "workspace")


def test_a_run_is_opened_once_and_recognised(place: Workspace) -> None:
    runs, run_file = RunStore(place.database_url), RunConfig.from_dict(REQUIRED)
    assert recognise(runs, run_file) is None
    open_run(runs, run_file)
    open_run(runs, run_file)

    known = recognise(runs, run_file)
    assert known is not None
    assert known.state is RunState.CREATED
    with pytest.raises(ConfigError, match=r"refit\.steps: 1000 then, 5 now"):
        open_run(runs, RunConfig.from_dict(REQUIRED, ["refit.steps=5"]))


def test_a_run_of_another_version_is_refused_in_words(place: Workspace) -> None:
    runs, run_file = RunStore(place.database_url), RunConfig.from_dict(REQUIRED)
    runs.create("mine", run_file.configuration(), "digest of an older version")

    with pytest.raises(ConfigError, match="defaults that changed with the version"):
        recognise(runs, run_file)


def test_only_finished_work_is_answered(place: Workspace) -> None:
    runs, run_file = RunStore(place.database_url), RunConfig.from_dict(REQUIRED)
    assert finished_result(runs, run_file, place) is None
    open_run(runs, run_file)
    runs.set_stage("mine", "train", {"weights": "x"})
    runs.set_stage("mine", "search", {"digest": "y"})

    assert finished_result(runs, run_file, place) is None
    assert finished_result(runs, run_file, place, "train") is None  # the weight store has to be asked
    assert finished_result(runs, run_file, place, "search") == {"digest": "y"}


def test_forgetting_leaves_nothing_and_can_be_cut_off_anywhere(place: Workspace) -> None:
    database = Database(place.database_url)
    runs, storage = RunStore(database), TrialStorage(database)
    other = storage.create_new_study([StudyDirection.MINIMIZE], "other")
    for done_before in ("nothing", "run", "study", "folder"):
        if done_before == "nothing":
            open_run(runs, RunConfig.from_dict(REQUIRED))
        if done_before in ("nothing", "run"):
            storage.create_new_study([StudyDirection.MINIMIZE], "mine")
        (place.run_folder("mine") / "export").mkdir(parents=True, exist_ok=True)

        forget_run("mine", place, database)

        assert runs.list() == []
        assert [study._study_id for study in storage.get_all_studies()] == [other]
        assert not place.run_folder("mine").exists()


def test_an_export_replaces_exports_only(tmp_path: Path) -> None:
    place = Workspace.open(tmp_path)
    assert export_path(RunConfig.from_dict(REQUIRED), place) == tmp_path / "runs" / "mine" / "export"
    wanted = export_path(RunConfig.from_dict(REQUIRED, [f"export.path={tmp_path}/here"]), place)
    assert wanted == tmp_path / "here"

    check_export_path(wanted)
    wanted.mkdir()
    check_export_path(wanted)
    (wanted / "config.json").write_text("{}")
    with pytest.raises(InputError, match="is not an exported model"):
        check_export_path(wanted)
    (wanted / "config.json").write_text('{"glorasearch": {}}')
    check_export_path(wanted)
    (tmp_path / "file").write_text("[1")
    with pytest.raises(InputError, match="is not an exported model"):
        check_export_path(tmp_path / "file")


def test_differences_are_named_with_both_values() -> None:
    found = differences({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 1, "c": 3}, "e": None, "d": [1]})

    assert found == ["a.c: 2 then, 3 now"]


def test_a_workspace_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Not a directory; give another by --workspace"):
        Workspace.open(tmp_path / "file" / "workspace")
    with pytest.raises(InputError, match="File exists"):
        Workspace.open(tmp_path / "file")
    if os.geteuid() != 0:  # root may write anywhere
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(InputError, match="is not writable"):
            Workspace.open(tmp_path / "closed")


def test_looking_makes_nothing(tmp_path: Path) -> None:
    place = Workspace.open(tmp_path / "workspace", create=False)

    assert not place.has_database
    assert not place.path.exists()
    assert Workspace.open(tmp_path, "postgresql://host/name", create=False).has_database
