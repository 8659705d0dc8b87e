"""A run that is there already: another configuration, a fresh start, lost files, a second process."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glorasearch.cli.main import run as command_line
from glorasearch.db import RunState, RunStore

Bench = Any
MakeBench = Callable[..., Bench]


def test_another_configuration_of_the_same_name_is_refused(
    undisturbed: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    before = undisturbed.outcome()

    assert command_line(undisturbed.arguments("run", "--set", "train.steps=7", "--set", "search.sampler=random")) == 2

    error = capsys.readouterr().err
    assert "train.steps: 80 then, 7 now" in error
    assert "search.sampler: 'evolution' then, 'random' now" in error
    assert "--set name=<name>" in error
    assert "--fresh" in error
    assert undisturbed.outcome() == before


def test_an_edited_search_space_is_another_configuration(
    undisturbed: Bench, make_bench: MakeBench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = tmp_path / "own.toml"
    space.write_text('[choices]\nB = ["none", "lora:2"]\n')
    bench = make_bench(f"space.name={space}")
    assert command_line(bench.arguments("train", "--quiet", "--set", "train.steps=1")) == 0
    space.write_text('[choices]\nB = ["none", "lora:4"]\n')

    assert command_line(bench.arguments("search", "--quiet", "--set", "train.steps=1")) == 2

    assert "spaces.space.choices.B: ['none', 'lora:2'] then, ['none', 'lora:4'] now" in capsys.readouterr().err


def test_fresh_starts_over_but_not_before_everything_is_checked(
    copied: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    before = copied.outcome()
    for wrong in ("device=tpu", "space.min=10_000_000", "search.parents=40", "backbone.name=vit_nothing"):
        assert command_line(copied.arguments("run", "--fresh", "--quiet", "--set", wrong)) == 2
    assert command_line(copied.arguments("search", "--fresh", "--quiet")) == 2
    assert "start over with `glorasearch train --fresh`" in capsys.readouterr().err
    assert copied.outcome() == before

    short = [text for key in ("train.steps=2", "search.trials=16", "refit.steps=0") for text in ("--set", key)]
    assert command_line(copied.arguments("run", "--fresh", "--quiet", "--json", *short)) == 0

    report = json.loads(capsys.readouterr().out)
    assert report == copied.report
    assert (report["supernet"]["steps"], report["search"]["trials"]) == (2, 16)
    assert len(copied.outcome()["trials"]) == 16
    assert {row[1] for row in copied.outcome()["metrics"] if row[0] == "train"} == {2}
    assert set(before["files"]) - set(copied.outcome()["files"]) == {"curves/refit.csv"}
    assert set(copied.outcome()["files"]) <= set(before["files"])


def test_a_run_has_one_process(make_bench: MakeBench, capsys: pytest.CaptureFixture[str]) -> None:
    bench = make_bench("train.steps=5000")
    first = bench.start()
    bench.wait_until(bench.checkpoint("train").exists, first)
    first.send_signal(signal.SIGSTOP)  # it lives, and stays where it is

    assert command_line(bench.arguments("run", "--quiet")) == 1
    assert f"run 'tiny' is being worked on by process {first.pid}" in capsys.readouterr().err
    assert command_line(bench.arguments("run", "--quiet", "--fresh")) == 1
    assert f"process {first.pid}" in capsys.readouterr().err
    assert bench.checkpoint("train").exists()
    assert bench.record.state is RunState.RUNNING


def test_a_finished_run_needs_no_weights_but_its_files(copied: Bench, undisturbed: Bench) -> None:
    assert command_line(copied.arguments("run", "--quiet")) == 0  # the workspace was moved: the export is, too
    assert copied.report["export"]["path"] == str(copied.folder / "export")
    shutil.rmtree(copied.workspace / "weights")
    assert command_line(copied.arguments("run", "--quiet")) == 0
    assert not (copied.workspace / "weights").exists()
    (copied.folder / "report.json").unlink()
    shutil.rmtree(copied.folder / "export")

    assert command_line(copied.arguments("run", "--quiet")) == 0

    assert copied.outcome() == undisturbed.outcome()


def test_weights_that_come_out_differently_are_refused(copied: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    runs = RunStore(copied.database_url)
    (copied.folder / "report.json").unlink()
    training = copied.record.stages["train"]
    runs.set_stage("tiny", "train", training | {"weights": "0" * 64})

    assert command_line(copied.arguments("run", "--quiet")) == 1

    assert "ended in other weights" in capsys.readouterr().err
    assert copied.record.stages["train"]["weights"] == "0" * 64
