import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.stage_results import report

from glorasearch.data.sources.vtab import CLASSES, GROUPS, LISTS
from glorasearch.db import RunState
from glorasearch.errors import ConfigError, DataError, InputError
from glorasearch.runs.config import RunConfig
from glorasearch.runs.progress import Silent
from glorasearch.runs.stored_run import StoredRun
from glorasearch.runs.sweep import SweepResult, TaskRow, sweep
from glorasearch.runs.sweep_tasks import load_sweep
from glorasearch.runs.sweep_worker import TaskOutcome, TaskSpec
from glorasearch.runs.workspace import Workspace


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all tasks of VTAB-1k, whose lists are empty."""
    monkeypatch.chdir(tmp_path)
    for task in CLASSES:
        (tmp_path / "vtab" / task).mkdir(parents=True)
        for name in LISTS:
            (tmp_path / "vtab" / task / f"{name}.txt").touch()
    return tmp_path


def run_file(folder: Path, source: str, more: str = "") -> Path:
    path = folder / "my.toml"
    path.write_text(f'[backbone]\nname = "quickstart"\n[data]\nsource = "{source}"\n{more}')
    return path


def test_a_run_for_each_task(folder):
    path = run_file(folder, f"vtab:{folder}/vtab/{{task}}", '[export]\npath = "models/{task}"\n')
    tasks = load_sweep(path, ["search.trials=7"], "svhn, kitti,svhn")
    assert [task.name for task in tasks] == ["svhn", "kitti"]
    assert [task.group for task in tasks] == ["natural", "structured"]
    kitti = tasks[1].config
    assert kitti.name == "my-kitti"
    assert kitti.data.source == f"vtab:{folder}/vtab/kitti"
    assert kitti.export.path == f"{folder}/models/kitti"
    assert kitti.search.trials == 7


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("vtab", list(CLASSES)),
        ("structured", list(GROUPS["structured"])),
        ("dtd,specialized,eurosat", ["dtd", *GROUPS["specialized"]]),
    ],
)
def test_groups_stand_for_their_tasks(wanted, names, folder):
    assert [task.name for task in load_sweep(run_file(folder, "vtab:vtab/{task}"), (), wanted)] == names


@pytest.mark.parametrize("where", ["beside the run file", "current directory", "overridden"])
def test_relative_sources_mean_what_they_mean_in_a_run_file(where, folder, monkeypatch):
    other = folder / "other"
    other.mkdir()
    monkeypatch.chdir(folder if where != "beside the run file" else other)
    path = run_file(other if where == "current directory" else folder, "vtab:vtab/{task}")
    if where == "overridden":
        monkeypatch.chdir(other)
        (other / "vtab").mkdir()
        (folder / "vtab" / "dtd").rename(other / "vtab" / "dtd")
    overrides = ["data.source=vtab:vtab/{task}"] if where == "overridden" else []
    (task,) = load_sweep(path, overrides, "dtd")
    expected = f"vtab:{folder}/vtab/dtd" if where == "beside the run file" else "vtab:vtab/dtd"
    assert task.config.data.source == expected


def test_tasks_of_an_archive(folder):
    path = run_file(folder, "npz:tasks.npz#{task}")
    with pytest.raises(DataError, match=r"1 of 1 tasks are not there: count .*tasks\.npz"):
        load_sweep(path, (), "count")
    (folder / "tasks.npz").touch()
    names = [task.config.data.source for task in load_sweep(path, (), "count,digits")]
    assert names == [f"npz:{folder}/tasks.npz#count", f"npz:{folder}/tasks.npz#digits"]


def test_one_task_of_vtab_stands_for_all(folder):
    (task,) = load_sweep(run_file(folder, "vtab:vtab/cifar"), (), "dtd")
    assert task.config.data.source == f"vtab:{folder}/vtab/dtd"


def test_other_sources(folder):
    (folder / "images" / "a").mkdir(parents=True)
    (task,) = load_sweep(run_file(folder, "folder:images/{task}"), (), "a")
    assert task.config.data.source == f"folder:{folder}/images/a"
    assert task.group is None
    tasks = load_sweep(run_file(folder, "torch/{task}", 'root = "/data/{task}"\n'), (), "x,y")
    assert [task.config.data.source for task in tasks] == ["torch/x", "torch/y"]
    assert tasks[1].config.data.root == "/data/y"


def test_what_is_refused(folder):
    with pytest.raises(ConfigError, match=r"data.source is 'digits', which has no place for a task's name"):
        load_sweep(run_file(folder, "digits"), (), "dtd")
    with pytest.raises(ConfigError, match=r"export.path is one place for all tasks"):
        load_sweep(run_file(folder, "vtab:vtab/{task}", '[export]\npath = "one"\n'), (), "dtd")
    vtab = run_file(folder, "vtab:vtab/{task}")
    with pytest.raises(InputError, match="VTAB-1k has no 'cifar10', 'natura'; its tasks are cifar, caltech101"):
        load_sweep(vtab, (), "cifar10,dtd,natura")
    for nothing in ("", "dtd,,svhn"):
        with pytest.raises(InputError, match="expected names separated by commas"):
            load_sweep(vtab, (), nothing)
    (folder / "vtab" / "dtd" / "val200.txt").unlink()
    (folder / "vtab" / "svhn").rename(folder / "vtab" / "gone")
    with pytest.raises(DataError, match=r"2 of 3 tasks are not there: dtd \(.*/dtd/val200.txt\), svhn \(.*/svhn\)"):
        load_sweep(vtab, (), "dtd,svhn,kitti")
    with pytest.raises(DataError, match="1 of 1 tasks are not there: b"):
        load_sweep(run_file(folder, "folder:images/{task}"), (), "b")


def test_what_has_finished_is_not_done_again_and_other_runs_are_refused(folder):
    path = run_file(folder, "vtab:vtab/{task}")
    place = Workspace.open(folder / "workspace")
    tasks = load_sweep(path, (), "dtd,svhn")
    asked: list[str] = []

    def runner(specs: Mapping[str, TaskSpec]) -> Iterator[tuple[str, TaskOutcome]]:
        asked.extend(specs)
        for name, spec in specs.items():
            assert RunConfig.from_dict(spec.config) == tasks[1].config
            assert (spec.workspace, spec.store) == (str(place.path), place.store_url)
            yield name, outcome(0.25, 3)

    runs = place.runs
    StoredRun(tasks[0].config, place).open()
    runs.set_stage("my-dtd", "report", report(winner={"test_accuracy": 0.5}).to_json())
    runs.set_state("my-dtd", RunState.FINISHED)
    result = sweep(tasks, place, progress=Silent(), runner=runner)
    assert asked == ["svhn"]
    assert {row.task: row.test_accuracy for row in result.tasks} == {"dtd": 0.5, "svhn": 0.25}

    other = load_sweep(path, ["search.trials=25"], "svhn,dtd")
    with pytest.raises(ConfigError, match="run 'my-dtd' was started with another configuration"):
        sweep(other, place, progress=Silent(), runner=runner)
    assert asked == ["svhn"]


def outcome(accuracy: float, parameters: int) -> TaskOutcome:
    return TaskOutcome(report=report(winner={"parameters": parameters, "test_accuracy": accuracy}))


def result_of(folder: Path, outcomes: dict[str, TaskOutcome]) -> dict[str, Any]:
    tasks = load_sweep(run_file(folder, "vtab:vtab/{task}"), (), ",".join(outcomes))
    result = SweepResult(tuple(TaskRow.of(task, outcomes[task.name]) for task in tasks))
    content: dict[str, Any] = json.loads(json.dumps(result.to_json()))
    return content


def test_means_of_groups_and_of_their_means(folder):
    outcomes = {
        "dtd": outcome(0.5, 10),
        "svhn": outcome(0.7, 30),
        "eurosat": outcome(0.9, 40),
        "kitti": outcome(0.2, 60),
    }
    result = result_of(folder, outcomes)
    assert [(row["task"], row["group"], row["run"]) for row in result["tasks"]] == [
        ("dtd", "natural", "my-dtd"),
        ("svhn", "natural", "my-svhn"),
        ("eurosat", "specialized", "my-eurosat"),
        ("kitti", "structured", "my-kitti"),
    ]
    assert result["groups"]["natural"] == {"tasks": 2, "of": 7, "parameters": 20.0, "test_accuracy": pytest.approx(0.6)}
    assert result["mean_of_groups"] == pytest.approx((0.6 + 0.9 + 0.2) / 3)
    assert result["mean"] == pytest.approx(0.575)
    assert result["failed"] == []


def test_a_failed_task_leaves_no_mean_of_its_group(folder):
    result = result_of(
        folder, {"dtd": outcome(0.5, 10), "svhn": TaskOutcome(error="broken"), "kitti": outcome(0.2, 60)}
    )
    assert result["failed"] == ["svhn"]
    assert result["tasks"][1]["error"] == "broken"
    assert result["tasks"][1]["test_accuracy"] is None
    assert result["groups"]["natural"]["test_accuracy"] is None
    assert result["groups"]["structured"]["test_accuracy"] == 0.2
    assert result["mean_of_groups"] is None
    assert result["mean"] is None
