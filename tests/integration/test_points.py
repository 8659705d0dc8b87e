"""Another point of a finished search as a run of its own: what it takes over, what it says, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from glorasearch.cli.main import run as command_line
from glorasearch.errors import ConfigError
from glorasearch.figures import RunFacts, figures_of, lacking
from glorasearch.runs import Run, Workspace
from glorasearch.runs.points import Searched
from glorasearch.runs.results import Results

Bench = Any
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def searched(copied: Bench) -> Searched:
    """The finished run, in a workspace that may be changed."""
    return Searched.find(Workspace.open(copied.workspace), "tiny")


def other_trial(searched: Searched) -> int:
    """The smallest trial of the front, which did not win."""
    number = searched.search.pareto[0].trial
    assert number != searched.search.trial
    return number


def test_a_trial_is_refitted_and_exported_as_a_run_of_its_own(copied: Bench, searched: Searched, call: Call) -> None:
    number, before = other_trial(searched), copied.outcome()
    name = f"tiny-trial-{number}"

    code, out, err = call("export", "tiny", "--trial", str(number), "--json", *copied.place)

    assert code == 0, err
    (room,) = [line for line in err.splitlines() if line.startswith("writes about")]
    assert "database" not in room, "the search's trials are written already"
    report, run = json.loads(out), Run(searched.config_of(number), searched.workspace)
    assert report["run"] == run.name == name
    assert (report["point"]["run"], report["point"]["trial"]) == ("tiny", number)
    assert report["winner"]["name"] == f"trial {number}"
    assert report["winner"]["parameters"] == searched.search.pareto[0].parameters
    assert report["winner"]["search_accuracy"] == searched.search.pareto[0].search_accuracy
    assert [point["trial"] for point in report["front"]] == [point.trial for point in searched.search.pareto]
    assert "trial 3 of the search of run 'tiny'".replace("3", str(number)) in report["statements"][0]
    assert run.results.train is not None
    assert run.results.train.weights == searched.train.weights
    assert run.results.train.from_run == "tiny"
    assert run.results.baselines == searched.results.baselines
    assert {metric.stage for metric in run.metrics} == {"refit"}
    facts = RunFacts.read(copied.database_url, name)
    drawn = figures_of(facts)
    (cost,) = (one for one in drawn if one.key == "cost")
    assert {row["stage"] for row in cost.spec["data"]["values"]} == {"refit", "test", "export", "report"}
    said = [line for line in lacking(facts, drawn) if "score against parameters" in line]
    assert ["no trial" in line for line in said] == [False]
    assert "its search is that of run tiny, whose report has them" in said[0]
    exported = timm.create_model(f"local-dir:{report['export']['path']}", pretrained=True).eval()
    assert Path(report["export"]["path"]).parent.name == name
    assert exported(torch.zeros(1, 1, 28, 28)).shape == (1, 10)
    config = json.loads((Path(report["export"]["path"]) / "config.json").read_text())
    assert config["glorasearch"]["provenance"]["point"] == {"run": "tiny", "trial": number}

    again, out, _ = call("export", "tiny", "--trial", str(number), *copied.place, "--quiet")
    assert again == 0
    assert f"trial {number}, refitted" in out
    assert "glorasearch export tiny --trial N" in out
    assert call("verify", name, *copied.place)[0] == 0
    unchanged = copied.outcome()
    assert {key: unchanged[key] for key in ("report", "stages", "trials")} == {
        key: before[key] for key in ("report", "stages", "trials")
    }


def test_the_best_trial_within_a_number_of_parameters(copied: Bench, searched: Searched, call: Call) -> None:
    trials = [record for record in searched.trials.values() if not record.score.stopped_early]
    limit = sorted(record.parameters for record in trials)[len(trials) // 2]
    best = min(
        (record for record in trials if record.parameters <= limit),
        key=lambda record: (record.score.tempered, -record.score.accuracy),
    )

    options = ("--max-params", str(limit), "--set", "name=small", "--set", "refit.steps=0", "--json")
    code, out, err = call("export", str(copied.run_file), *options, *copied.place)

    assert code == 0, err
    assert f"trial {best.number} of run 'tiny' has {best.parameters:,} parameters" in err
    report = json.loads(out)
    assert (report["run"], report["point"]["trial"]) == ("small", best.number)
    assert report["winner"]["digest"] == best.subnet_digest
    assert report["winner"]["test_accuracy"] == report["winner"]["test_accuracy_inherited"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--trial", "48"], "run 'tiny' has no trial 48; it has the trials 0 to 47"),
        (["--max-params", "1"], "no trial of at most 1 parameters"),
        (["--max-params", "1", "--trial", "1"], "give one of them"),
        (["--trial", "1", "--set", "train.steps=3"], "train: not as in run 'tiny'"),
        (["--trial", "1", "--set", "space.max=2000"], "space: not as in run 'tiny'"),
        (["--trial", "1", "--set", "name=tiny"], "needs a name of its own"),
        (["--trial", "1", "--set", "race.enabled=true"], "a trial that was chosen does not race"),
    ],
)
def test_what_cannot_be_a_point(options: list[str], said: str, undisturbed: Bench, call: Call) -> None:
    code, out, err = call("export", "tiny", *options, *undisturbed.place, "--quiet")

    assert (code, out) == (2, "")
    assert said in err
    assert [record.name for record in Workspace.open(undisturbed.workspace).list_runs()] == ["tiny"]


def test_a_point_of_an_nsga2_search(make_bench: Callable[..., Bench], call: Call) -> None:
    bench = make_bench("search.sampler=nsga2", "search.trials=16", "train.steps=5", "refit.steps=0")
    assert call(*bench.arguments("train", "--quiet"))[0] == call(*bench.arguments("search", "--quiet"))[0] == 0
    front = Results(bench.record.stages).search

    code, out, err = call("export", "tiny", "--trial", str(front.pareto[0].trial), "--json", "--quiet", *bench.place)

    assert code == 0, err
    assert json.loads(out)["winner"]["parameters"] == front.pareto[0].parameters
    assert call("export", "tiny", "--trial", "1", *bench.place, "--set", "search.fitness=tempered", "--quiet")[0] == 0


def test_runs_without_other_points_are_refused(copied: Bench, searched: Searched, call: Call) -> None:
    number = other_trial(searched)
    assert call("export", "nothing", "--trial", "1", *copied.place)[0] == 2
    sets = ("--set", "refit.steps=0", "--set", "name=point", "--quiet")
    assert call("export", "tiny", "--trial", str(number), *sets, *copied.place)[0] == 0

    code, _, err = call("export", "point", "--trial", "1", *copied.place)
    assert (code, "is itself a point of run 'tiny'" in err) == (2, True)

    start = ("--set", "name=next", "--set", f"search.start=['run:point/{number}']")
    code, _, err = call(*copied.arguments("run", *start))
    assert (code, "those are run:tiny/TRIAL" in err) == (2, True)

    for weights in (copied.workspace / "weights").iterdir():
        shutil.rmtree(weights)
    code, _, err = call("export", "tiny", "--trial", "1", *copied.place)
    assert (code, "the weights of the supernet of run 'tiny' are not in the weight store" in err) == (2, True)


def test_a_point_of_a_run_file_needs_both_of_its_keys(searched: Searched) -> None:
    with pytest.raises(ConfigError, match="run and trial belong together"):
        searched.config_of(1, ["point.run=other", "point={run='other'}"])


@pytest.fixture(scope="module")
def accuracy_search(make_bench: Callable[..., Bench]) -> dict[bool, Bench]:
    """A search with and without early stopping, up to its end; the trials are the same."""
    made: dict[bool, Bench] = {}
    for stops in (True, False):
        sets = ("search.sampler=random", "search.fitness=accuracy", f"search.early_stopping={str(stops).lower()}")
        made[stops] = make_bench(*sets, "search.eval_batch_size=4", "refit.steps=0", "report.baselines=[]")
        for stage in ("train", "search"):
            assert command_line([*made[stops].arguments(stage), "--quiet"]) == 0
    return made


def test_early_stopping_changes_nothing_about_the_best_within_a_number_of_parameters(
    accuracy_search: dict[bool, Bench], call: Call
) -> None:
    stopped, whole = (Searched.find(Workspace.open(bench.workspace), "tiny") for bench in accuracy_search.values())
    assert stopped.search.stopped_early > 10
    least = min(record.parameters for record in stopped.trials.values() if not record.score.stopped_early)
    limits = (record.parameters for record in whole.trials.values() if record.parameters >= least)
    limit = next(
        limit for limit in limits if stopped.best_within(limit).number != whole.best_within(limit).number
    )  # here the best one had been stopped
    best = whole.best_within(limit)

    code, out, err = call("export", "tiny", "--max-params", str(limit), "--json", *accuracy_search[True].place)

    assert code == 0, err
    report = json.loads(out)
    assert f"trial {best.number} of run 'tiny' has {best.parameters:,} parameters" in err
    assert (report["point"]["trial"], report["point"]["rank"]) == (best.number, None)
    assert report["winner"]["search_accuracy"] == best.score.accuracy
    assert report["winner"]["search_cross_entropy"] == pytest.approx(best.score.cross_entropy)
    assert "stopped early there, and evaluated to the end here" in report["statements"][0]
