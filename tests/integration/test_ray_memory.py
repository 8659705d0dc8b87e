"""One worker of a run has too little memory, by a limit that is really reached: the run ends as in one process."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.devices import Device, parameters
from support.greedy import DEVICE, FOLDER

Bench = Any
SPACE = """
name = "greedy"
plugins = ["support.greedy:Greedy"]
[choices]
B = ["greedy:1", "greedy:2", "greedy:4"]
"""
SHORT = ("train.steps=12", "refit.steps=0", "report.baselines=[]", "search.early_stopping_lag=4", "compile=off")
RANKS = ("train.ranks=2", "train.steps=600", "train.probe_every=0", "compile=off")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: Device) -> Path:
    """With the space, and where processes are told that one of them is to be limited."""
    (tmp_path / "greedy.toml").write_text(SPACE)
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.setenv(DEVICE, device.name)
    return tmp_path


@pytest.mark.parametrize("device", parameters(gpus=1))
def test_a_search_builds_the_worker_again(
    make_bench: Callable[..., Bench], make_copy: Callable[[Bench], Bench], folder: Path, device: Device
) -> None:
    """Choices are merged as an evaluator is built; a lack of memory in an evaluation is in test_ray_executor.py."""
    alone = make_bench(f"space.name={folder}/greedy.toml", *SHORT, "search.trials=96", *device.settings)
    alone.finish("train")
    spread = make_copy(alone)
    alone.finish()
    (folder / "now").touch()
    process = spread.start("run", *device.evaluators(cpus=2, gpus=2, share=0.5))
    assert process.wait(240) == 0, spread.errors()
    assert (folder / "limited").exists(), "no worker was limited"
    said = spread.errors()
    what = "out of memory" if device.cuda else "can't allocate memory"
    assert re.search(rf"worker \d.* is (built again|replaced).*{what}", said), said
    expected, found = alone.outcome(), spread.outcome()
    for part in ("trials", "evaluations", "weights", "export"):
        assert found[part] == expected[part], part
    assert spread.record.stages["search"]["failed"] == 0


@pytest.mark.parametrize("device", parameters(cpu=(pytest.mark.slow,)))
def test_a_training_says_so_and_goes_on_at_the_next_call(
    make_bench: Callable[..., Bench], folder: Path, device: Device
) -> None:
    settings = (f"space.name={folder}/greedy.toml", *RANKS, *device.settings)
    spread, alone = make_bench(*settings), make_bench(*settings)
    process = spread.start("train", *device.trainers(2))
    spread.wait_until(lambda: spread.steps("train") >= 40, process)
    (folder / "now").touch()
    assert process.wait(240) == 1
    assert "process 1 of the training failed: too little memory" in spread.errors()
    assert "Start the same command again: it resumes from the last checkpoint" in spread.errors()
    assert 40 <= spread.steps("train") < 600
    assert "supernet: resumes at step" in spread.finish("train", *device.trainers(2))
    alone.finish("train")
    found, expected = spread.record.stages["train"], alone.record.stages["train"]
    assert found["key"] == expected["key"]
    assert found["steps"] == expected["steps"] == 600
    if device.cuda:
        assert found["loss"] == pytest.approx(expected["loss"], rel=0.1)
    else:
        assert found["weights"] == expected["weights"]
