"""Whole runs whose own Ray is killed under them: the search goes on by itself, a training at the next call."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import psutil
import pytest

Bench = Any
SHORT = ("train.steps=12", "refit.steps=0", "race.enabled=false", "report.baselines=[]", "search.trials=64")


def kill_raylet(driver: int) -> None:
    """Kill the raylet that a process has started."""
    (raylet,) = [child for child in psutil.Process(driver).children() if child.name() == "raylet"]
    os.kill(raylet.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_search_goes_on_and_ends_as_if_nothing_had_happened(make_bench: Callable[..., Bench]) -> None:
    lag = "search.early_stopping_lag=4"  # it goes by the executor otherwise, and with it what is recorded
    alone, spread = make_bench(*SHORT, lag), make_bench(*SHORT, lag)
    alone.finish()
    process = spread.start("run", "--executor", "ray", "--workers", "2")
    spread.wait_until(lambda: spread.trials() >= 3, process)
    kill_raylet(process.pid)
    assert process.wait(240) == 0, spread.errors()
    assert spread.outcome() == alone.outcome()
    assert spread.record.stages["search"]["failed"] == 0


@pytest.mark.slow
def test_a_training_says_why_it_ends_and_goes_on_at_the_next_call(make_bench: Callable[..., Bench]) -> None:
    long = ("train.ranks=2", "train.steps=400", "train.probe_every=0")
    alone, spread = make_bench(*long), make_bench(*long)
    workers = ("--executor", "ray", "--train-workers", "2")
    process = spread.start("train", *workers)
    spread.wait_until(lambda: spread.steps("train") >= 40, process)
    kill_raylet(process.pid)
    assert process.wait(120) == 1
    assert "the Ray that was started on this machine has died" in spread.errors()
    assert "Start the same command again: it goes on" in spread.errors()
    assert "Traceback" not in spread.errors()
    assert 40 <= spread.steps("train") < 400
    assert "supernet: resumes at step" in spread.finish("train", *workers)
    alone.finish("train")
    assert spread.record.stages["train"]["weights"] == alone.record.stages["train"]["weights"]
