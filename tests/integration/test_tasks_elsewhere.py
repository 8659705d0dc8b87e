"""Runs that say numbers or several labels, on several Ray workers and on PostgreSQL: the same as in one process."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.labelled import write_labelled
from support.numbers import write_numbers

Bench = Any
MakeBench = Callable[..., Bench]
Settings = tuple[str, ...]
RACE = (
    "race.enabled=true", 'race.methods=["lora"]', "race.rates=[1e-3, 1e-2]", "race.finalists=1", "race.named=0",
    "race.steps=12", "race.folds=3", "race.rungs=[1]", "race.keep=2", "race.stack=2", "refit.teachers=2",
    "refit.orders=1", "refit.teacher_steps=12", "refit.mixed=12", "refit.steps=12",
)  # fmt: skip


@pytest.fixture(scope="module", params=["regress", "multilabel"])
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp(request.param)
    path = write_numbers(folder, 200) if request.param == "regress" else write_labelled(folder, 200)
    sizes = ("data.train=100", "data.search=50", "data.test=50", "train.steps=12", "train.lr=1e-2", "train.ranks=2",
             "search.trials=24", "search.early_stopping_lag=4", "report.baselines=[]")  # fmt: skip
    return (f"data.source=csv:{path}", f"data.task={request.param}", *sizes, *RACE)


@pytest.fixture(scope="module")
def alone(settings: Settings, make_bench: MakeBench) -> Bench:
    """In one process, on SQLite."""
    bench = make_bench(*settings)
    bench.finish()
    return bench


@pytest.mark.slow
def test_the_same_on_two_ray_workers(settings: Settings, alone: Bench, make_bench: MakeBench) -> None:
    spread = make_bench(*settings)
    spread.finish("run", "--executor", "ray", "--workers", "2", "--train-workers", "2")
    expected, found = alone.outcome(), spread.outcome()
    for part in ("trials", "evaluations", "weights", "export"):
        assert found[part] == expected[part], part
    scores = [[one["scores"] for one in bench.record.stages["race"]["candidates"]] for bench in (alone, spread)]
    assert scores[0] == scores[1], "races, whose stacks are tasks of the cluster"
    assert spread.report["metrics"] == alone.report["metrics"]


def test_the_same_on_postgresql(
    settings: Settings, alone: Bench, make_bench: MakeBench, postgresql_url: str, call: Callable[..., Any]
) -> None:
    bench = make_bench(*settings, server_url=postgresql_url)
    bench.finish()
    assert bench.outcome() == alone.outcome()
    assert not (bench.workspace / "glorasearch.db").exists()
    for command in (("runs",), ("show", "tiny"), ("compare", "tiny"), ("report", "tiny")):
        code, out, err = call(*command, "--json", *bench.place)
        assert code == 0, err
        assert json.loads(out)
