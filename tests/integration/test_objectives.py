"""A run that searches by objectives of its own: what it records, its front, and other points of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optuna.study import StudyDirection

from glorasearch.db import TrialStorage
from glorasearch.runs import Workspace
from glorasearch.runs.model_costs import KeptCosts
from glorasearch.runs.points import Searched

Bench = Any
Call = Callable[..., tuple[int, str, str]]
OBJECTIVES = ["macro_f1", "latency", "bytes", "training_flops"]


def test_a_run_by_four_objectives(make_bench: Callable[..., Bench], call: Call) -> None:
    sets = ("search.sampler=nsga2", f"search.objectives={OBJECTIVES}", "search.trials=16", "search.population=8")
    bench = make_bench(*sets, "refit.steps=0", "report.baselines=[]")

    code, out, err = call(*bench.arguments("run", "--json"))

    assert code == 0, err
    report = json.loads(out)
    searched = Searched.find(Workspace.open(bench.workspace), "tiny")
    storage = searched.storage
    study = storage.get_study_id_from_name("tiny")
    rises, falls = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
    assert storage.get_study_directions(study) == [rises, falls, falls, falls]
    trials = TrialStorage(searched.workspace.database).get_all_trials(study)
    for trial in trials:
        attrs = trial.user_attrs
        assert trial.values == [attrs["macro_f1"], *(attrs[f"cost_{name}"] for name in OBJECTIVES[1:])]
        assert attrs["cost_latency"] > 0
        assert attrs["cost_bytes"] >= 4 * attrs["parameters"]
    assert report["search"]["fitness"] == "macro_f1"
    assert report["best_searched"]["search_fitness"] == max(trial.values[0] for trial in trials)
    best = report["best_searched"]["trial"]
    assert len(report["front"]) > 1
    assert (
        max(point["objectives"]["macro_f1"] for point in report["front"]) == report["best_searched"]["search_fitness"]
    )
    for point in report["front"]:
        assert list(point["objectives"].values()) == trials[point["trial"]].values
        assert list(point["objectives"]) == OBJECTIVES
    code, out, _ = call("show", "tiny", *bench.place)
    assert "parameters, macro F1, latency in ms, bytes, GFLOP of a training step" in " ".join(out.split())

    number = next(point["trial"] for point in report["front"] if point["trial"] != best)
    code, out, err = call("export", "tiny", "--trial", str(number), "--json", "--quiet", *bench.place)
    assert code == 0, err
    assert json.loads(out)["best_searched"]["search_fitness"] == trials[number].values[0]
    limit = sorted(trial.user_attrs["parameters"] for trial in trials)[8]
    within = [trial for trial in trials if trial.user_attrs["parameters"] <= limit]
    options = ("--max-params", str(limit), "--set", "name=small", "--json", "--quiet")
    code, out, err = call("export", "tiny", *options, *bench.place)
    assert code == 0, err
    assert json.loads(out)["best_searched"]["search_fitness"] == max(trial.values[0] for trial in within)


def test_the_best_within_a_number_of_parameters_of_plain_nsga2(make_bench: Callable[..., Bench], call: Call) -> None:
    bench = make_bench("search.sampler=nsga2", "search.trials=16", "train.steps=5", "refit.steps=0")
    assert call(*bench.arguments("train", "--quiet"))[0] == call(*bench.arguments("search", "--quiet"))[0] == 0
    searched = Searched.find(Workspace.open(bench.workspace), "tiny")
    assert searched.search.pareto[0].objectives == {}
    limit = sorted(record.parameters for record in searched.trials.values())[8]

    code, out, err = call("export", "tiny", "--max-params", str(limit), "--json", "--quiet", *bench.place)

    assert code == 0, err
    assert json.loads(out)["point"]["trial"] == searched.best_within(limit).number


def test_what_was_measured_is_kept_but_for_what_another_machine_measured(tmp_path: Path) -> None:
    path = tmp_path / "run" / "latencies.jsonl"
    known = KeptCosts(path, "cpu")
    known["one"], known["two"] = 0.1, 0.25
    KeptCosts(path, "other")["one"] = 7.0
    with path.open("a") as file:
        file.write('\n["cpu", "three", 0.')
    again = KeptCosts(path, "cpu")
    assert again == {"one": 0.1, "two": 0.25}
    again["four"] = 1.0
    assert KeptCosts(path, "cpu") == {"one": 0.1, "two": 0.25, "four": 1.0}
    assert KeptCosts(path, "other") == {"one": 7.0}
