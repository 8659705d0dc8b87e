"""A supernet that one run of a workspace has trained serves every other run that would train the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.curves import csv_points

from glorasearch.db import RaceStore, RunStore
from glorasearch.runs.results import Results

Bench = Any
MakeBench = Callable[..., Bench]
RACE = (
    "race.enabled=true", 'race.methods=["lora", "ssf"]', "race.rates=[1e-3, 1e-2]", "race.finalists=1", "race.named=0",
    "race.steps=12", "race.folds=3", "race.rungs=[1]", "race.keep=2", "race.stack=2", "refit.teachers=0",
    "refit.steps=12", "report.baselines=[]", "report.best_fixed=false", "report.random_subnets=0",
)  # fmt: skip
"""Three entrants at two rates on one fold, then two on two more."""


def test_another_search_takes_the_training_over(make_bench: MakeBench, undisturbed: Bench, tmp_path: Path) -> None:
    """A run that differs in what follows the training only does not train the supernet again."""
    shutil.copytree(undisturbed.workspace, tmp_path / "workspace")
    bench = make_bench("name=again", "search.fitness=accuracy", "refit.steps=0", workspace=tmp_path / "workspace")
    errors = bench.finish()
    assert f"supernet: taken over from run '{undisturbed.record.name}'" in errors
    store = RunStore(bench.database_url)
    again, before = store.get("again"), undisturbed.record
    assert again is not None
    assert again.stages["train"]["weights"] == before.stages["train"]["weights"]
    assert again.stages["train"]["from_run"] == before.name
    assert not store.metrics("again", "train")
    curves = bench.workspace / "runs" / "again" / "curves"
    assert csv_points(curves, "train") == csv_points(undisturbed.curves, "train")  # they are the other run's
    other = make_bench("name=other", "train.steps=8", "report.baselines=[]", workspace=tmp_path / "workspace")
    assert "taken over" not in other.finish()


def test_another_race_takes_over_what_was_trained(make_bench: MakeBench, tmp_path: Path) -> None:
    """Fixed methods do not depend on the search: only what another run has found is trained, with the same result."""
    first = make_bench(*RACE, "name=first", workspace=tmp_path / "workspace")
    first.finish()
    again = ("name=again", "search.fitness=accuracy", "search.trials=12", "train.lr=2e-3")
    second = make_bench(*RACE, *again, workspace=tmp_path / "workspace")
    said = second.finish()
    alone = make_bench(*RACE, *again)  # in a workspace of its own
    assert "taken over" not in alone.finish()
    races = RaceStore(second.database_url)
    stored = races.list("again")
    taken = [member for member in stored if member.from_run is not None]
    assert {member.from_run for member in taken} == {"first"}
    assert {member.label for member in taken if member.rung == 1} == {
        "lora at 0.001", "lora at 0.01", "ssf at 0.001", "ssf at 0.01"
    }  # fmt: skip
    assert "race, rung 1: 4 of 6 trainings taken over from 'first'" in said
    expected = RaceStore(alone.database_url).list("again")
    assert all(member.from_run is None for member in expected)
    assert [(one.candidate, one.fold, one.correct, one.nats) for one in stored] == [
        (one.candidate, one.fold, one.correct, one.nats) for one in expected
    ]
    record = RunStore(second.database_url).get("again")
    assert record is not None
    race = Results(record.stages, "again").race
    assert race is not None
    assert race.taken_over is not None
    assert (race.taken_over.trainings, race.taken_over.runs) == (len(taken), ("first",))
    assert race.taken_over.seconds == sum(member.seconds for member in taken)
    assert race.trainings == len(stored)
    # What was taken over is not passed on a second time, and a run that starts over does all by itself.
    assert not races.trained_elsewhere("first", {str(member.training) for member in taken})
    fresh = make_bench(*RACE, *again, workspace=tmp_path / "workspace")
    assert "taken over" not in fresh.finish("run", "--fresh")
    assert all(member.from_run is None for member in RaceStore(fresh.database_url).list("again"))
