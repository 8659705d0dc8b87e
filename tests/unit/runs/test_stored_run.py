"""Finding, answering and forgetting runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from optuna.study import StudyDirection
from support.stage_results import result

from glorasearch.db import RunState, TrialStorage
from glorasearch.errors import ConfigError, InputError, RunLockedError
from glorasearch.runs.config import RunConfig
from glorasearch.runs.progress import Silent
from glorasearch.runs.resources import ResourceConfig
from glorasearch.runs.results import ExportResult, SearchResult, TrainResult
from glorasearch.runs.session import Session
from glorasearch.runs.stored_run import StoredRun, changes, differences
from glorasearch.runs.workspace import Workspace

REQUIRED: dict[str, Any] = {"name": "mine", "backbone": {"name": "vit"}, "data": {"source": "digits"}}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "workspace")


def stored(workspace: Workspace, *overrides: str) -> StoredRun:
    return StoredRun(RunConfig.from_dict(REQUIRED, overrides), workspace)


def test_a_run_is_opened_once_and_found(workspace: Workspace) -> None:
    run = stored(workspace)
    assert run.find() is None
    run.open()
    run.open()

    known = run.find()
    assert known is not None
    assert known.state is RunState.CREATED
    with pytest.raises(ConfigError, match=r"refit\.steps: 1500 then, 5 now"):
        stored(workspace, "refit.steps=5").open()


def test_a_run_of_another_version_is_refused_in_words(workspace: Workspace) -> None:
    run = stored(workspace)
    workspace.runs.create("mine", run.configuration, "digest of an older version")

    with pytest.raises(ConfigError, match="defaults that changed with the version"):
        run.find()


def test_only_finished_work_is_answered(workspace: Workspace) -> None:
    run = stored(workspace)
    assert run.finished() is None
    run.open()
    workspace.runs.set_stage("mine", "train", result("train"))
    workspace.runs.set_stage("mine", "search", result("search", trial=7))

    assert run.finished() is None
    assert run.finished("train") is None  # the weight store has to be asked
    found = run.finished("search")
    assert isinstance(found, SearchResult)
    assert found.trial == 7
    assert found == run.require(SearchResult)


def test_a_stage_that_is_needed_is_named_with_its_command(workspace: Workspace) -> None:
    run = stored(workspace)
    with pytest.raises(InputError, match=r"no finished stage 'train'; run `glorasearch train RUN_FILE` first"):
        run.require(TrainResult)
    run.open()
    with pytest.raises(InputError, match=r"no finished stage 'export'; run `glorasearch export RUN_FILE` first"):
        run.require(ExportResult)


def test_a_run_that_is_worked_on_is_refused(workspace: Workspace) -> None:
    run = stored(workspace)
    run.check_free()
    run.open()
    run.check_free()
    with workspace.runs.lock("mine"):
        for fresh in (False, True):
            with pytest.raises(RunLockedError, match="run 'mine'"):
                run.check_free(fresh=fresh)


def test_forgetting_leaves_nothing_and_can_be_cut_off_anywhere(workspace: Workspace) -> None:
    storage, run = TrialStorage(workspace.database), stored(workspace)
    other = storage.create_new_study([StudyDirection.MINIMIZE], "other")
    for done_before in ("nothing", "run", "study", "folder"):
        if done_before == "nothing":
            run.open()
        if done_before in ("nothing", "run"):
            storage.create_new_study([StudyDirection.MINIMIZE], "mine")
        (workspace.run_folder("mine") / "export").mkdir(parents=True, exist_ok=True)

        run.forget()

        assert workspace.runs.list() == []
        assert [study._study_id for study in storage.get_all_studies()] == [other]
        assert not workspace.run_folder("mine").exists()


def test_an_export_replaces_exports_only(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    assert stored(workspace).files.export == tmp_path / "runs" / "mine" / "export"
    files = stored(workspace, f"export.path={tmp_path}/here").files
    wanted = files.export
    assert wanted == tmp_path / "here"

    files.check_export()
    wanted.mkdir()
    files.check_export()
    (wanted / "config.json").write_text("{}")
    with pytest.raises(InputError, match="is not an exported model"):
        files.check_export()
    (wanted / "config.json").write_text('{"glorasearch": {}}')
    files.check_export()
    (tmp_path / "file").write_text("[1")
    with pytest.raises(InputError, match="is not an exported model"):
        stored(workspace, f"export.path={tmp_path}/file").files.check_export()


def test_differences_are_named_with_both_values() -> None:
    found = differences({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 1, "c": 3}, "e": None, "d": [1]})

    assert found == {"a.c": "2 then, 3 now"}
    assert differences({}, {"a": {"b": 1}, "groups": [{"share": "x"}]}) == {
        "a.b": "not set then, 1 now",
        "groups": "changed",
    }


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["space.max=300000"], ["space.max: not set then, 300000 now"]),
        (["space.name=lora"], ["space.name: 'glora_small' then, 'lora' now"]),
        (["space.entangle=reference"], ["space.entangle: not set then, 'reference' now"]),
        (["report.baselines=['lora', 'ssf']"], ["report.baselines: ['lora'] then, ['lora', 'ssf'] now"]),
    ],
)
def test_a_change_is_said_once(overrides: list[str], said: list[str]) -> None:
    first = ["space.name=glora_small", "report.baselines=['lora']"]
    old, new = (RunConfig.from_dict(REQUIRED, [*first, *more]) for more in ([], overrides))

    assert changes(old.configuration(old.load_spaces()), new.configuration(new.load_spaces())) == said


def test_the_search_spaces_of_a_run_are_read_once(tmp_path: Path, workspace: Workspace) -> None:
    spaces = {key: tmp_path / f"{key}.toml" for key in ("own", "baseline")}
    for path in spaces.values():
        path.write_text('[choices]\nB = ["lora:2"]\n')
    overrides = (f"space.name={spaces['own']}", f"report.baselines=['{spaces['baseline']}']")
    run = stored(workspace, *overrides)
    run.open()
    for path in spaces.values():
        path.write_text('[choices]\nB = ["lora:4"]\n')

    session = Session(run, ResourceConfig(), Silent())
    assert session.space.identity() == run.configuration["spaces"]["space"] == {"choices": {"B": ["lora:2"]}}
    assert [space.choices.B for space in run.spaces.values()] == [("lora:2",), ("lora:2",)]
    with pytest.raises(ConfigError) as caught:
        stored(workspace, *overrides).find()
    for key in ("space", f"report.baselines.{spaces['baseline']}"):
        assert f"spaces.{key}.choices.B: ['lora:2'] then, ['lora:4'] now" in str(caught.value)
