"""A run that finds its learning rate, on the quickstart's backbone, by real processes."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
from support.curves import csv_points
from support.runs import NAME, timeless

from glorasearch.db import RunStore
from glorasearch.runs.results import Pilot, Results

Bench = Any
MakeBench = Callable[..., Bench]
OWN = (
    "backbone.name=quickstart", "backbone.args={}", "backbone.pretrained=true", "space.name=lean",
    "train.lr=auto", "train.pilot_rates=[1e-6, 1e-2, 1e3]", "train.pilot_steps=45", "train.checkpoint_every=10",
    "train.steps=12", "train.batch_size=16",
)  # fmt: skip
STAGES = ["rate:0.01", "rate:1e-06", "rate:1000", "pilot", "train"]


@pytest.fixture(scope="module")
def found(make_bench: MakeBench) -> Bench:
    """A run that has found its rate and trained its supernet."""
    bench = make_bench(*OWN)
    bench.finish("train")
    return bench


def outcome(bench: Bench) -> tuple[Any, ...]:
    """What pilots and training found, bit for bit, without times."""
    rows = RunStore(bench.database_url).metrics(NAME)
    metrics = [(row.stage, row.step, row.name, row.value) for row in rows]
    return timeless(bench.record.stages), [row for row in metrics if row[2] not in ("seconds", "images_per_second")]


def stages_of(bench: Bench, name: str) -> Results:
    record = RunStore(bench.database_url).get(name)
    assert record is not None
    return Results(record.stages)


def test_the_sane_one_of_three_rates_is_found_and_used(found: Bench, make_bench: MakeBench) -> None:
    pilots = Results(found.record.stages).pilot
    assert pilots is not None
    assert list(found.record.stages) == STAGES
    assert pilots.lr == 1e-2

    low, good, high = pilots.pilots
    assert (low.rate, low.stopped, low.diverged, low.steps, low.checks) == (1e-6, True, False, 15, (15,))
    assert (high.rate, high.stopped, high.diverged, high.score) == (1e3, False, True, None)
    assert (good.steps, good.checks, good.stopped, good.diverged) == (45, (15, 30, 45), False, False)
    assert good.scores[0] > good.scores[2] == good.score
    assert pilots.steps == low.steps + good.steps + high.steps
    assert pilots.seconds == pytest.approx(low.seconds + good.seconds + high.seconds)
    assert min(low.seconds, good.seconds, high.seconds) > 0
    assert "learning rate 0.01" in found.errors()
    points = csv_points(found.curves, "rate:0.01")
    assert [step for step, _ in points["seconds"]] == [15, 30, 45]
    rows = RunStore(found.database_url).metrics(NAME, "rate:0.01")
    assert points["loss"] == [(row.step, row.value) for row in rows if row.name == "loss"]

    given = make_bench(*OWN, "train.lr=1e-2", "name=given", workspace=found.workspace)
    assert "taken over from run 'tiny', which trained the same" in given.finish("train")
    assert [stage for stage, _ in stages_of(given, "given").items()] == ["train"]


def test_a_run_that_is_killed_in_its_pilots_ends_with_the_same(found: Bench, make_bench: MakeBench) -> None:
    bench = make_bench(*OWN)
    for reached in (
        lambda: bench.steps("rate:0.01") >= 30,
        lambda: bench.has_stage("rate:0.01"),
        lambda: bench.has_stage("rate:1e-06"),
    ):
        assert bench.stop_when(reached, bench.start("train")) == -signal.SIGKILL
    errors = bench.finish("train")

    assert "rate 0.01: " not in errors, "its pilot had ended"
    assert "rate 1e-06: " not in errors
    assert outcome(bench) == outcome(found)
    assert not list((bench.folder / "checkpoints").iterdir())


def test_another_run_takes_the_rate_over(found: Bench, make_bench: MakeBench) -> None:
    more = make_bench(*OWN, "name=more", "train.steps=5", "train.pilot_steps=45", workspace=found.workspace)
    other = make_bench(*OWN, "name=other", "refit.steps=3", workspace=found.workspace)

    assert "learning rate 0.01: taken over from run 'tiny'" in other.finish("train")
    assert "taken over" not in more.finish("train", "--set", "train.pilot_rates=[1e-2, 2e-2]")

    results = stages_of(other, "other")
    pilots, trained = results.pilot, results.train
    assert pilots is not None
    assert trained is not None
    assert (pilots.from_run, pilots.lr, trained.from_run) == ("tiny", 1e-2, "tiny")
    assert results.get(Pilot, "0.01") is None


def test_a_run_whose_pilots_all_diverge_says_what_to_do(make_bench: MakeBench) -> None:
    bench = make_bench(*OWN, "train.pilot_rates=[1e3, 1e4]", "train.pilot_steps=6")

    assert bench.start("train").wait(100) == 1

    assert "all pilots diverged, at learning rates 1000, 10000: set lower train.pilot_rates" in bench.errors()
    assert list(bench.record.stages) == ["rate:1000", "rate:10000"]


@pytest.mark.slow
def test_pilots_on_the_workers_of_a_cluster_find_the_same(make_bench: MakeBench) -> None:
    """The driver gives the low rate up while its processes train."""
    small = (
        *OWN, "train.ranks=2", "train.batch_size=16", "data.train=100", "data.search=50", "data.test=50",
        "train.pilot_rates=[1e-6, 5e-3, 1e-2]", "train.pilot_steps=18", "train.steps=2",
    )  # fmt: skip
    here, there = make_bench(*small), make_bench(*small)
    here.finish("train")
    there.finish("train", "--executor", "ray", "--train-workers", "2")
    pilots = Results(there.record.stages).pilot
    assert pilots is not None
    assert [pilot.stopped for pilot in pilots.pilots] == [True, False, False]
    assert timeless(there.record.stages) == timeless(here.record.stages)
