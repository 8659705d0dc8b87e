"""A run that is killed (SIGKILL) at many moments and started again is, bit for bit, the run that nobody disturbed.

The runs are real processes. Where they are killed is decided by what they have written, never by the clock. The
scenarios are played two at a time, since each of them mostly waits for a process to start.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from glorasearch.db import RunState

KILLED = -signal.SIGKILL
Bench = Any
MakeBench = Callable[..., Bench]
SEEDS = (3,)
KILLS = 5


def moments(bench: Bench) -> dict[str, tuple[Callable[[], bool], str]]:
    """Where to kill, in the order of the stages: the condition, and what the next process says when it goes on."""
    return {
        "training, at its first checkpoint": (bench.checkpoint("train").exists, "supernet: goes on at step "),
        "training, later": (lambda: bench.steps("train") >= 65, "supernet: goes on at step 60"),
        "search, within a generation": (lambda: bench.trials() >= 21, "search: goes on at trial "),
        "search, in the last generation": (lambda: bench.trials() >= 36, "search: goes on at trial "),
        "refit": (bench.checkpoint("refit").exists, "refit of the winner: goes on at step 20"),
        "baselines": (bench.checkpoint("baseline-lora").exists, "baseline lora: goes on at step "),
        "export": (lambda: any(bench.folder.glob(".glorasearch-tmp-*-export")), ""),
    }


def play_stages(bench: Bench) -> list[str]:
    """Kill in every stage; returns what was not as it should be."""
    found, expected = [], ""
    for moment, (condition, goes_on) in moments(bench).items():
        code = bench.stop_when(condition, bench.start())
        if code != KILLED:
            found.append(f"{moment}: ended with {code} instead of being killed:\n{bench.errors()}")
        if bench.run.state is not RunState.INTERRUPTED:
            found.append(f"{moment}: the run is {bench.run.state} after the kill")
        if expected not in bench.errors():
            found.append(f"{moment}: the process before the kill did not say {expected!r}:\n{bench.errors()}")
        expected = goes_on
    errors = bench.finish()
    if "supernet" in errors or "search" in errors or "refit" in errors or "baseline" in errors:
        found.append(f"the last process did finished stages again:\n{errors}")
    return found


def play_random(bench: Bench, total: int, seed: int) -> list[str]:
    """Kill at `KILLS` random amounts of progress; returns what was not as it should be."""
    thresholds = sorted(random.Random(seed).sample(range(1, total), KILLS))
    found = []
    for threshold in thresholds:
        code = bench.stop_when(lambda threshold=threshold: bench.progress() >= threshold, bench.start())
        if code != KILLED:
            found.append(f"progress {threshold} of {total}: ended with {code} instead of being killed")
    bench.finish()
    return found


@pytest.fixture(scope="module")
def scenarios(make_bench: MakeBench, undisturbed: Bench) -> Iterator[dict[str, tuple[Bench, Future[list[str]]]]]:
    """All scenarios, under way."""
    with ThreadPoolExecutor(2) as pool:
        plays: dict[str, Callable[[Bench], list[str]]] = {"stages": play_stages} | {
            f"random-{seed}": lambda bench, seed=seed: play_random(bench, undisturbed.progress(), seed)
            for seed in SEEDS
        }
        started = {}
        for name, play in plays.items():
            bench = make_bench()
            started[name] = bench, pool.submit(play, bench)
        yield started


@pytest.mark.parametrize("name", ["stages", *(f"random-{seed}" for seed in SEEDS)])
def test_a_killed_run_ends_as_an_undisturbed_one(
    name: str, scenarios: dict[str, tuple[Bench, Future[list[str]]]], undisturbed: Bench
) -> None:
    bench, play = scenarios[name]

    assert play.result() == []

    found, expected = bench.outcome(), undisturbed.outcome()
    assert found["trials"] == expected["trials"]
    assert found["report"]["winner"] == expected["report"]["winner"]
    assert found == expected
    assert [number for number, *_ in found["trials"]] == list(range(48))
    assert found["evaluations"] == found["report"]["search"]["evaluated"]
    assert bench.run.state is RunState.FINISHED
    assert bench.run.owner is None
