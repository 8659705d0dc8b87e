"""A run whose search optimises a metric that takes classes alike, from the run file to report, dashboard and points."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from optuna.study import StudyDirection

from glorasearch.db import RaceStore, SummarisingStorage, TrialStorage
from glorasearch.race import standing
from glorasearch.runs import Workspace
from glorasearch.runs.fold_scores import fold_score
from glorasearch.runs.points import Searched
from glorasearch.runs.results import Results
from glorasearch.space import BETAS

Bench = Any
Call = Callable[..., tuple[int, str, str]]


def test_a_run_by_balanced_accuracy(make_bench: Callable[..., Bench], call: Call) -> None:
    bench = make_bench("search.fitness=balanced_accuracy", "refit.steps=0", "report.baselines=[]")

    code, out, err = call(*bench.arguments("run", "--json"))

    assert code == 0, err
    report = json.loads(out)
    assert "best " in err
    assert "balanced accuracy" in err
    assert report["search"]["fitness"] == report["chance"]["fitness"] == "balanced_accuracy"
    searched = Searched.find(Workspace.open(bench.workspace), "tiny")
    best = searched.trial(report["best_searched"]["trial"]).score
    assert report["best_searched"]["search_fitness"] == best.balanced_accuracy == report["chance"]["found"]
    whole = [record.score for record in searched.trials.values() if not record.score.stopped_early]
    assert best.balanced_accuracy == max(score.balanced_accuracy or 0 for score in whole)
    front = [point["objectives"]["balanced_accuracy"] for point in report["front"]]
    assert front == sorted(front)
    assert front[-1] == best.balanced_accuracy
    assert any("balanced accuracy on the search split, judged by" in line for line in report["statements"])

    code, out, _ = call("show", "tiny", *bench.place)
    assert (code, f"on the search split: balanced accuracy {front[-1]:.3f}, " in " ".join(out.split())) == (0, True)
    study = TrialStorage(searched.workspace.database).get_study_id_from_name("tiny")
    dashboard = SummarisingStorage(searched.workspace.database)
    assert dashboard.get_study_directions(study) == [StudyDirection.MAXIMIZE]
    shown = dashboard.get_all_trials(study)[report["best_searched"]["trial"]]
    assert (shown.values, shown.user_attrs["balanced_accuracy"]) == ([front[-1]], front[-1])

    limit = report["front"][0]["parameters"]
    code, out, err = call("export", "tiny", "--max-params", str(limit), "--json", "--quiet", *bench.place)
    assert code == 0, err
    point = json.loads(out)
    assert point["winner"]["parameters"] <= limit
    assert point["best_searched"]["search_fitness"] == front[0]
    assert "subnets by balanced accuracy" in point["statements"][0]


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (("search.fitness=auc",), "search.fitness"),
        (("search.sampler=nsga2", "search.objectives=['auc', 'bytes']"), "search.objectives"),
    ],
)
def test_an_area_under_the_curve_needs_two_classes_to_search_by(
    settings: tuple[str, ...], key: str, make_bench: Callable[..., Bench], call: Call
) -> None:
    bench = make_bench(*settings, "data.search=1")

    code, _, err = call(*bench.arguments("run"))

    assert code == 2
    assert f"{key} asks for 'auc', but all images of the search split have one label" in err


@pytest.mark.parametrize("judge", ["macro_f1", "auc"])
def test_a_race_by_a_metric_that_takes_classes_alike(judge: str, make_bench: Callable[..., Bench], call: Call) -> None:
    bench = make_bench(
        "race.enabled=true", f"race.judge={judge}", 'race.methods=["lora"]', "race.rates=[1e-3, 1e-2]", "race.named=0",
        "race.finalists=0", "race.steps=20", "race.folds=2", "race.rungs=[2]", "refit.teachers=0", "refit.steps=5",
        "report.baselines=[]", "report.steps=2", "train.steps=5", "search.trials=2", "search.population=2",
        "search.parents=2", f"search.fitness={judge}", "report.chance_subnets=0", "data.train=100", "data.search=40",
        "data.test=20", "train.lr=1e-2", "search.start=[]",
    )  # fmt: skip
    bench.finish()
    race = Results(bench.record.stages).race
    assert race is not None
    assert race.judge == judge
    judged = [candidate.last.judged for candidate in race.candidates]
    assert None not in judged
    assert judged == sorted(judged, key=lambda value: -(value or 0.0))
    members = RaceStore(Workspace.open(bench.workspace).database).list("tiny")
    stored = [fold_score(member) for member in members if member.label == race.candidates[0].label]
    assert len(stored) == 2
    assert standing(stored, BETAS, race.judge).judged == judged[0]
    name = {"macro_f1": "macro F1", "auc": "AUC"}[judge]
    assert f"{name} {judged[0]:.3f} out of fold" in " ".join(bench.report["statements"])
    code, out, _ = call("show", "tiny", *bench.place)
    assert (code, f"race: {name} out of fold" in out) == (0, True)
