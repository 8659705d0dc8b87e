"""A run that is killed (SIGKILL) at many moments and started again is, bit for bit, the run that nobody disturbed.

The runs are real processes. Where they are killed is decided by what they have written, never by the clock. The
scenarios are played two at a time, since each of them mostly waits for a process to start.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from glorasearch.cli.main import run as command_line
from glorasearch.db import Database, RunState
from glorasearch.jobs import Advance, Job, Progress, RunFile, Silent, Workspace, run_stages

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


class InterruptAt:
    """Progress that presses Ctrl+C at a step of a task."""

    def __init__(self, title: str, step: int) -> None:
        self.title, self.step = title, step
        self.said: list[str] = []

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        def advance(done: int, note: str = "") -> None:
            if (title, done) == (self.title, self.step):
                raise KeyboardInterrupt

        yield advance

    def say(self, text: str) -> None:
        self.said.append(text)


def job(bench: Bench, progress: Progress) -> Job:
    place = Workspace.open(bench.workspace)
    return Job(RunFile.load(bench.run_file, bench.overrides), place, Database(place.database_url), progress=progress)


@pytest.fixture
def interrupted(make_bench: MakeBench) -> Bench:
    """A training that was interrupted at step 50, with checkpoints of the steps 40 and 20."""
    bench = make_bench()
    with pytest.raises(KeyboardInterrupt):
        run_stages(job(bench, InterruptAt("supernet", 50)), "train")
    assert (bench.run.state, bench.run.error) == (RunState.STOPPED, None)
    return bench


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    interrupted: Bench, undisturbed: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    newest = interrupted.checkpoint("train")
    newest.write_bytes(newest.read_bytes()[:1000])
    progress = InterruptAt("", 0)

    run_stages(job(interrupted, progress), "train")

    assert "supernet: goes on at step 20" in progress.said
    assert f"using the previous checkpoint {newest}.previous" in caplog.text
    assert interrupted.run.stages["train"]["weights"] == undisturbed.run.stages["train"]["weights"]


def test_checkpoints_that_are_all_damaged_are_named(
    interrupted: Bench, undisturbed: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = interrupted.checkpoint("train")
    both = [newest, newest.with_name(f"{newest.name}.previous")]
    for path in both:
        path.write_bytes(path.read_bytes()[:1000])

    assert command_line(interrupted.arguments("train", "--quiet")) == 1

    error = capsys.readouterr().err
    assert all(str(path) in error for path in both)
    assert "delete these files to start from the beginning" in error
    for path in both:
        path.unlink()
    assert command_line(interrupted.arguments("train", "--quiet")) == 0
    assert interrupted.run.stages["train"]["weights"] == undisturbed.run.stages["train"]["weights"]


def test_ctrl_c_is_exit_130_and_the_run_goes_on(make_bench: MakeBench, undisturbed: Bench) -> None:
    bench = make_bench()

    code = bench.stop_when(lambda: bench.trials() >= 5, bench.start(), signal.SIGINT)

    assert code == 130
    assert "interrupted; the same command goes on where it was" in bench.errors()
    assert "Traceback" not in bench.errors()
    assert (bench.run.state, bench.run.error, bench.run.owner) == (RunState.STOPPED, None, None)
    assert command_line(bench.arguments("run", "--quiet")) == 0
    assert bench.outcome() == undisturbed.outcome()


def test_a_sandwich_training_and_a_fresh_refit_go_on_exactly(make_bench: MakeBench) -> None:
    variant = ("train.strategy=sandwich", "train.probe_every=0", "refit.start=fresh", "search.sampler=random")
    disturbed, whole = make_bench(*variant, "report.baselines=[]"), make_bench(*variant, "report.baselines=[]")
    for title, step in (("supernet", 70), ("search (random)", 25), ("refit of the winner", 39)):
        with pytest.raises(KeyboardInterrupt):
            run_stages(job(disturbed, InterruptAt(title, step)))
    run_stages(job(disturbed, Silent()))
    run_stages(job(whole, Silent()))

    assert disturbed.outcome() == whole.outcome()
