"""Data that is decoded on every access, as that of every set larger than `data.max_memory_gib` is: the same results."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.runs import timeless

from glorasearch.search.config import SAMPLERS

pytestmark = pytest.mark.slow
Bench = Any
MakeBench = Callable[..., Bench]
ON_DEMAND = "data.max_memory_gib=0"
EVERY_STAGE = (
    'train.lr="auto"', "train.steps=20", "search.trials=16", "race.enabled=true",
    'race.methods=["lora", "linear_probe"]', "race.rates=[1e-3, 1e-2]", "race.finalists=1", "race.named=1",
    "race.steps=12", "race.folds=2", "race.rungs=[1]", "race.keep=2", "race.stack=2", "refit.teachers=2",
    "refit.orders=2", "refit.teacher_steps=20", "refit.mixed=40", "refit.steps=20", "report.steps=10",
)  # fmt: skip
SHORT = ("train.steps=10", "search.trials=16", "refit.steps=5", "report.baselines=[]")


def content(bench: Bench) -> Any:
    """The report of a finished run, without times, places and where the images were kept."""
    report = json.loads((bench.workspace / "runs" / "tiny" / "report.json").read_text())
    for split in ("train", "search", "test"):
        assert report["splits"][split].pop("in_memory") is (ON_DEMAND not in bench.overrides)
    return timeless(report)


def finished(make_bench: MakeBench, *overrides: str, more: tuple[str, ...] = ()) -> Any:
    bench = make_bench(*overrides)
    bench.finish("run", *more)
    return content(bench)


def test_every_stage(make_bench: MakeBench) -> None:
    """Pilots, training, search, race in stacks, refit with teachers, baselines, test, export, report."""
    expected = finished(make_bench, *EVERY_STAGE)
    assert expected["race"] is not None
    assert expected["refit"]["teachers"] is not None
    assert finished(make_bench, *EVERY_STAGE, ON_DEMAND) == expected


@pytest.mark.parametrize(("sampler", "mode"), [*((name, "generational") for name in SAMPLERS), ("evolution", "steady")])
def test_every_sampler(sampler: str, mode: str, make_bench: MakeBench) -> None:
    chosen = (f"search.sampler={json.dumps(sampler)}", f"search.mode={json.dumps(mode)}")
    assert finished(make_bench, *SHORT, *chosen, ON_DEMAND) == finished(make_bench, *SHORT, *chosen)


def test_ray(make_bench: MakeBench) -> None:
    on_ray = finished(make_bench, *SHORT, ON_DEMAND, more=("--executor", "ray", "--workers", "2"))
    assert on_ray == finished(make_bench, *SHORT)
