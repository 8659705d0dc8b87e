"""Runs are removed and renamed whole: database, folder and weights, also when the process is killed in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.places import A, B, C, Place
from support.stage_results import result

from glorasearch.cli.main import run as command_line
from glorasearch.code_cache import CodeFolder, cached_code
from glorasearch.db import RunState

KILLED = """
import os, signal, sys
from glorasearch.runs.unfinished import Change
Change.{step} = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
from glorasearch.cli.main import run
run(sys.argv[1:])
"""


class Tidied(Place):
    """A place whose commands are called, or killed."""

    def call(self, *arguments: str) -> int:
        return command_line([*arguments, *self.options])

    def killed(self, step: str, *arguments: str) -> None:
        code = KILLED.format(step=step)
        done = subprocess.run([sys.executable, "-c", code, *arguments, *self.options], check=False, capture_output=True)
        assert done.returncode == -signal.SIGKILL


@pytest.fixture
def place(tmp_path: Path) -> Tidied:
    found = Tidied(tmp_path / "workspace")
    found.add("flowers", A, B)
    found.add("birds", A, C)
    return found


def test_a_run_goes_whole_and_shared_weights_stay(place: Tidied, capsys: pytest.CaptureFixture[str]) -> None:
    before = place.state
    assert place.call("runs", "rm", "flowers", "--dry-run") == 0
    assert "removes flowers (finished): 0.0 MB; 1 weight sets stay" in capsys.readouterr().out
    assert place.state == before
    assert place.call("runs", "rm", "flowers") == 2
    assert "say --yes to remove without being asked" in capsys.readouterr().err
    assert place.state == before

    assert place.call("runs", "rm", "flowers", "--yes") == 0
    assert place.state == ({"birds"}, {"birds"}, {"birds"}, {A, C})
    assert place.call("runs", "rm", "birds", "--yes", "--json") == 0
    assert place.state == (set(), set(), set(), set())


@pytest.mark.parametrize("step", ["write", "finish"])
def test_a_killed_removal_is_all_or_nothing(step: str, place: Tidied) -> None:
    place.killed(step, "runs", "rm", "flowers", "--yes")
    assert place.call("runs") == 0

    if step == "write":
        assert place.state == ({"flowers", "birds"}, {"flowers", "birds"}, {"flowers", "birds"}, {A, B, C})
    else:
        assert place.state == ({"birds"}, {"birds"}, {"birds"}, {A, C})


def test_a_renamed_run_is_the_same_run(place: Tidied) -> None:
    path = str(place.workspace.run_folder("flowers") / "export")
    place.workspace.runs.set_stage("flowers", "export", result("export", path=path))
    assert place.call("runs", "rename", "flowers", "roses") == 0

    record = place.workspace.runs.get("roses")
    assert record is not None
    assert record.config["name"] == "roses"
    assert record.stages["export"]["path"] == str(place.workspace.run_folder("roses") / "export")
    assert place.state == ({"roses", "birds"}, {"roses", "birds"}, {"roses", "birds"}, {A, B, C})


def test_a_killed_renaming_ends_at_the_next_command(place: Tidied) -> None:
    place.killed("finish", "runs", "rename", "flowers", "roses")
    assert "roses" not in place.state[2]
    assert place.call("runs", "rm", "roses", "--dry-run") == 0
    assert place.state == ({"roses", "birds"}, {"roses", "birds"}, {"roses", "birds"}, {A, B, C})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rm", "flowrs", "--yes"], "no run 'flowrs' (did you mean 'flowers'?)"),
        (["rm", "flowers", "--yes"], "run 'flowers' is needed by 'point'"),
        (["rename", "flowers", "roses"], "run 'flowers' cannot be renamed: 'point' has that name"),
        (["rename", "birds", "flowers"], "there is a run 'flowers' in "),
        (["rename", "birds", "a/b"], "name 'a/b': a run's name has at most 200 letters"),
    ],
)
def test_refusals(arguments: list[str], message: str, place: Tidied, capsys: pytest.CaptureFixture[str]) -> None:
    place.add("point", point={"run": "flowers", "trial": 1})
    before = place.state

    assert place.call("runs", *arguments) == 2
    assert message in capsys.readouterr().err
    assert place.state == before


def test_dependents_go_with_what_they_need(place: Tidied) -> None:
    place.add("point", point={"run": "flowers", "trial": 1})
    assert place.call("runs", "rm", "flowers", "point", "--yes") == 0
    assert place.state[0] == {"birds"}


@pytest.mark.parametrize("arguments", [["rm", "flowers", "--yes"], ["rename", "flowers", "roses"]])
def test_a_run_at_work_is_refused(arguments: list[str], place: Tidied, capsys: pytest.CaptureFixture[str]) -> None:
    place.workspace.runs.set_state("flowers", RunState.RUNNING)
    with place.workspace.runs.lock("flowers"):
        assert place.call("runs", *arguments) == 1
        assert "run 'flowers' is being worked on by " in capsys.readouterr().err
        assert place.call("runs", "prune", "--days", "0", "--yes", "--json") == 0
        assert "is being worked on by" in json.loads(capsys.readouterr().out)["kept"]["flowers"]
    assert "flowers" in place.state[0]


def test_prune_removes_what_was_given_up(place: Tidied, capsys: pytest.CaptureFixture[str]) -> None:
    place.add("failed", "d" * 64, state=RunState.FAILED)
    (place.path / "weights" / ("e" * 64)).mkdir()

    assert place.call("runs", "prune", "--yes") == 0
    assert "keeps failed: it has changed in the last 7 days" in capsys.readouterr().out
    assert place.state == ({"flowers", "birds", "failed"},) * 3 + ({A, B, C, "d" * 64},)
    assert place.call("runs", "prune", "--yes", "--days", "0") == 0
    assert place.state == ({"flowers", "birds"},) * 3 + ({A, B, C},)


def test_prune_removes_compiled_code_that_was_not_used(place: Tidied, capsys: pytest.CaptureFixture[str]) -> None:
    root = place.path / "compiled"
    for torch in ("2.11", "2.12"):
        code = CodeFolder(root, {"torch": torch, "device": "H200 9.0"})
        (code.path / "triton" / "kernel").write_bytes(bytes(2_000_000))
        if torch == "2.11":
            code.close()

    assert place.call("runs", "prune", "--yes") == 0
    assert "there is nothing to remove" in capsys.readouterr().out
    os.utime(code.path.with_suffix(".lock"), (0, 0))
    assert place.call("runs", "prune", "--dry-run") == 0
    assert "removes compiled code (torch 2.12, device H200 9.0), last used 1970-01-01" in capsys.readouterr().out
    assert len(cached_code(root)) == 2

    assert place.call("runs", "prune", "--yes", "--days", "0", "--json", "--code-cache", str(root)) == 0
    said = capsys.readouterr()
    assert [one["facts"]["torch"] for one in json.loads(said.out)["compiled_code"]] == ["2.12", "2.11"]
    assert all(one["bytes"] > 2_000_000 for one in json.loads(said.out)["compiled_code"])
    assert f"keeps compiled code in {code.path}: a process uses it" in said.err
    assert [one.facts["torch"] for one in cached_code(root)] == ["2.12"]
    code.close()
    assert place.call("runs", "prune", "--yes", "--days", "0") == 0
    assert cached_code(root) == []


def test_weights_in_a_store_of_others_stay(place: Tidied, capsys: pytest.CaptureFixture[str]) -> None:
    place.options += ["--database", f"sqlite:///{place.path / 'glorasearch.db'}"]
    assert place.call("runs", "rm", "flowers", "--yes") == 0
    assert "2 weight sets stay" in capsys.readouterr().out
    assert place.state[3] == {A, B, C}
