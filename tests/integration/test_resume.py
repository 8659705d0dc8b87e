"""A run that is killed (SIGKILL) at many moments and started again is, bit for bit, the run that nobody disturbed.

The runs are real processes. Where they are killed is decided by what they have written, never by the clock.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from glorasearch.cli.main import run as command_line
from glorasearch.db import RunState
from glorasearch.runs import Advance, Progress, Run, RunConfig, Silent, Workspace

KILLED = -signal.SIGKILL
Bench = Any
MakeBench = Callable[..., Bench]
KILLS = 5


@dataclass(frozen=True)
class Moment:
    """Where to kill: during which stage, as soon as what holds; and what the next process says when it goes on."""

    stage: str
    condition: Callable[[], bool]
    goes_on: str = ""


def moments(bench: Bench) -> list[Moment]:
    """One or more in every stage, in their order."""
    return [
        Moment("train", bench.checkpoint("train").exists, "supernet: resumes at step "),
        Moment("train", lambda: bench.steps("train") >= 65, "supernet: resumes at step "),
        Moment("search", lambda: bench.trials() >= 21, "search: resumes at trial "),
        Moment("refit", bench.checkpoint("refit").exists, "refit of the winner: resumes at step "),
        Moment("baseline:lora", bench.checkpoint("baseline-lora").exists, "baseline lora: resumes at step "),
        Moment("export", lambda: any(bench.folder.glob(".glorasearch-tmp-*-export"))),
    ]


def play_stages(bench: Bench) -> list[str]:
    """Kill in every stage; returns what was not as it should be.

    On a machine that is very busy with other things a kill may come when its stage is over. It still has to do no harm,
    but most of them have to come in time.
    """
    found, expected, in_time = [], "", 0
    for moment in moments(bench):
        process = bench.start()
        code = bench.stop_when(lambda moment=moment: moment.condition() or bench.has_stage(moment.stage), process)
        if expected not in bench.errors():
            found.append(f"before {moment.stage}: did not say {expected!r}:\n{bench.errors()}")
        if code == 0:
            break
        if code != KILLED or bench.record.state is not RunState.INTERRUPTED:
            found.append(f"{moment.stage}: ended with {code}, the run is {bench.record.state}:\n{bench.errors()}")
        caught = not bench.has_stage(moment.stage)
        in_time += caught
        expected = moment.goes_on if caught else ""
    if in_time < 4:
        found.append(f"only {in_time} kills came in time")
    errors = bench.finish()
    if "supernet:" in errors or "search (" in errors:
        found.append(f"the last process did finished stages again:\n{errors}")
    return found


def check_equal(found: Bench, expected: Bench) -> None:
    one, other = found.outcome(), expected.outcome()
    assert one["trials"] == other["trials"]
    assert one["report"]["winner"] == other["report"]["winner"]
    assert one == other
    assert [number for number, *_ in one["trials"]] == list(range(48))
    assert one["evaluations"] == one["report"]["search"]["evaluated"]
    assert found.record.state is RunState.FINISHED
    assert found.record.owner is None


def test_a_run_that_is_killed_in_every_stage(make_bench: MakeBench, undisturbed: Bench) -> None:
    bench = make_bench()

    assert play_stages(bench) == []

    check_equal(bench, undisturbed)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_run_that_is_killed_at_random_moments(seed: int, make_bench: MakeBench, undisturbed: Bench) -> None:
    bench = make_bench()
    thresholds = sorted(random.Random(seed).sample(range(1, undisturbed.progress()), KILLS))

    for threshold in thresholds:
        code = bench.stop_when(lambda limit=threshold: bench.progress() >= limit, bench.start("run", "--quiet"))
        assert code in (KILLED, 0)

    bench.finish("run", "--quiet")
    check_equal(bench, undisturbed)


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


def run_of(bench: Bench, progress: Progress) -> Run:
    config = RunConfig.load(bench.run_file, bench.overrides)
    return Run(config, Workspace.open(bench.workspace), progress=progress)


@pytest.fixture
def interrupted(make_bench: MakeBench) -> Bench:
    """A training that was interrupted at step 50, with checkpoints of the steps 40 and 20."""
    bench = make_bench()
    with pytest.raises(KeyboardInterrupt):
        run_of(bench, InterruptAt("supernet", 50)).execute("train")
    assert (bench.record.state, bench.record.error) == (RunState.STOPPED, None)
    return bench


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    interrupted: Bench, undisturbed: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    newest = interrupted.checkpoint("train")
    newest.write_bytes(newest.read_bytes()[:1000])
    progress = InterruptAt("", 0)

    run_of(interrupted, progress).execute("train")

    assert "supernet: resumes at step 20" in progress.said
    assert f"using the previous checkpoint {newest}.previous" in caplog.text
    assert interrupted.record.stages["train"]["weights"] == undisturbed.record.stages["train"]["weights"]


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
    assert interrupted.record.stages["train"]["weights"] == undisturbed.record.stages["train"]["weights"]


def test_ctrl_c_is_exit_130_and_the_run_goes_on(make_bench: MakeBench, undisturbed: Bench) -> None:
    bench = make_bench()

    code = bench.stop_when(lambda: bench.trials() >= 5, bench.start(), signal.SIGINT)

    assert code == 130
    assert "interrupted; run the same command again to resume" in bench.errors()
    assert "Traceback" not in bench.errors()
    assert (bench.record.state, bench.record.error, bench.record.owner) == (RunState.STOPPED, None, None)
    assert command_line(bench.arguments("run", "--quiet")) == 0
    assert bench.outcome() == undisturbed.outcome()


def test_a_sandwich_training_and_a_fresh_refit_go_on_exactly(make_bench: MakeBench) -> None:
    variant = ("train.strategy=sandwich", "train.probe_every=0", "refit.start=fresh", "search.sampler=random")
    disturbed, whole = make_bench(*variant, "report.baselines=[]"), make_bench(*variant, "report.baselines=[]")
    for title, step in (("supernet", 70), ("search (random)", 25), ("refit of the winner", 39)):
        with pytest.raises(KeyboardInterrupt):
            run_of(disturbed, InterruptAt(title, step)).execute()
    run_of(disturbed, Silent()).execute()
    run_of(whole, Silent()).execute()

    assert disturbed.outcome() == whole.outcome()
