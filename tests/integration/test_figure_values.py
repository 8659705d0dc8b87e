"""Numbers in figures of a real run against the same, computed here from the rows of its database by other means."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest
from support.runs import NAME

from glorasearch.figures import Figure, RunFacts, figures_of
from glorasearch.runs.results import Results

Bench = Any
RUN = (
    "race.enabled=true", 'race.methods=["lora"]', "race.rates=[1e-3, 1e-2]", "race.finalists=2", "race.named=1",
    "race.steps=12", "race.folds=3", "race.rungs=[1]", "race.keep=2", "race.stack=2", "search.trials=48",
    'search.fitness="accuracy"', "train.steps=20", "refit.steps=10", "refit.teachers=0",
    "report.baselines=[]", "report.random_subnets=0", "report.steps=10",
)  # fmt: skip


@pytest.fixture(scope="module")
def raced(make_bench: Callable[..., Bench]) -> Bench:
    """A finished run with a race."""
    bench = make_bench(*RUN)
    bench.finish()
    return bench


@pytest.fixture(scope="module")
def figures(raced: Bench) -> dict[str, Figure]:
    """By key."""
    facts = RunFacts.read(raced.database_url, NAME, Path(raced.workspace) / "runs" / NAME)
    return {figure.key: figure for figure in figures_of(facts)}


@pytest.fixture(scope="module")
def database(raced: Bench) -> Iterator[sqlite3.Connection]:
    """Read without the product."""
    with closing(sqlite3.connect(Path(raced.workspace) / "glorasearch.db")) as opened:
        opened.row_factory = sqlite3.Row
        yield opened


def rows(figure: Figure) -> list[dict[str, Any]]:
    return list(figure.spec["data"]["values"])


def trials(database: sqlite3.Connection) -> list[dict[str, Any]]:
    """Attributes and choices of every trial that has a score."""
    known = {
        row["name"]: json.loads(row["distribution"])["attributes"]["choices"]
        for row in database.execute("select * from glorasearch_distributions order by version")
    }
    return [
        json.loads(row["user_attrs"])
        | {"choices": {gene: known[gene][index] for gene, index in json.loads(row["params"]).items()}}
        for row in database.execute("select * from glorasearch_trials where state = 'complete' order by number")
    ]


def test_the_race_has_the_sums_of_its_trainings(figures: dict[str, Figure], database: sqlite3.Connection) -> None:
    expected = {
        row["label"]: (row["correct"], row["images"], row["folds"])
        for row in database.execute(
            "select label, sum(correct) correct, sum(images) images, count(*) folds from glorasearch_race_members "
            "group by candidate"
        )
    }
    found = rows(figures["race"])
    assert len(found) == len(expected) >= 6
    assert sorted({one["folds"] for one in found}) == [1, 3]
    for one in found:
        correct, images, folds = expected[one["candidate"]]
        assert (one["score"], one["folds"]) == (pytest.approx(correct / images), folds)
        interval = binomtest(correct, images).proportion_ci(method="wilson")
        assert (one["low"], one["high"]) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_inherited_scores_are_those_of_the_trials(figures: dict[str, Figure], database: sqlite3.Connection) -> None:
    (race,) = database.execute("select result from glorasearch_stages where stage = 'race'").fetchone()
    of_subnet = {trial["subnet"]: trial for trial in reversed(trials(database))}
    alone = {row[0]: row[1] for row in database.execute(
        "select label, sum(correct) * 1.0 / sum(images) from glorasearch_race_members group by candidate")}  # fmt: skip
    expected = set()
    for one in json.loads(race)["candidates"]:
        trial = of_subnet.get(one["digest"])
        if one["space_key"] == "space" and trial is not None and trial["correct"] is not None:
            for label in (name for name in alone if name.startswith(f"{one['name']} at {one['rate']:g}")):
                expected.add((label, round(trial["correct"] / trial["total"], 9), round(alone[label], 9)))
    found = {
        (one["candidate"], round(one["inherited"], 9), round(one["score"], 9)) for one in rows(figures["inherited"])
    }
    assert found == expected
    assert len(found) >= 4


def test_survival_counts_choices_of_the_best_subnets(figures: dict[str, Figure], database: sqlite3.Connection) -> None:
    every = trials(database)
    subnets = {trial["subnet"]: trial for trial in reversed(every)}
    full = [trial for trial in subnets.values() if trial.get("stopped_early") in (None, False)]
    best = sorted((t for t in full if t["correct"] is not None), key=lambda t: -t["correct"] / t["total"])
    threshold = best[3]["correct"] / best[3]["total"]
    sure = [trial for trial in best if trial["correct"] / trial["total"] > threshold]
    found = {one["choice"]: one for one in rows(figures["survival"])}
    counts: dict[str, float] = defaultdict(float)
    genes = list(every[0]["choices"])
    for trial in subnets.values():
        for gene, choice in trial["choices"].items():
            tensor = gene.rpartition(".")[2]
            counts[f"{tensor}  {choice}"] += 1 / sum(name.endswith(f".{tensor}") for name in genes) / len(subnets)
    assert set(found) == set(counts)
    for name, one in found.items():
        assert one["mean"] == pytest.approx(counts[name])
        assert 0 <= one["low"] <= one["mean"] + 1e-9
        assert one["mean"] - 1e-9 <= one["high"] <= 1
        tensor, choice = name.split("  ")
        own = [gene for gene in genes if gene.endswith(f".{tensor}")]
        least = sum(trial["choices"][gene] == choice for trial in sure for gene in own) / 4 / len(own)
        assert least - 1e-9 <= one["share"] <= least + (4 - len(sure)) / 4 + 1e-9
        assert one["verdict"] == ("more often than by chance" if one["share"] > one["high"] + 1e-9 else
                                  "less often" if one["share"] < one["low"] - 1e-9 else "within chance")  # fmt: skip


def test_cost_is_the_seconds_of_the_stages(figures: dict[str, Figure], database: sqlite3.Connection) -> None:
    stages = {row["stage"]: json.loads(row["result"]) for row in database.execute("select * from glorasearch_stages")}
    spans = {
        row["stage"]: (datetime.fromisoformat(row["updated"]) - datetime.fromisoformat(row["started"])).total_seconds()
        for row in database.execute("select * from glorasearch_progress")
    }
    taken = {name for name, one in stages.items() if ":" in name and one.get("weights") == stages["refit"]["weights"]}
    expected = {name: one.get("seconds", spans.get(name)) for name, one in stages.items() if name not in taken}
    found = {one["stage"]: one["seconds"] for one in rows(figures["cost"])}
    assert found == {stage: pytest.approx(seconds) for stage, seconds in expected.items() if seconds}
    assert {"train", "search", "race", "refit", "test", "export"} <= set(found)
    trained = database.execute("select sum(seconds) from glorasearch_race_members").fetchone()[0]
    assert found["race"] == pytest.approx(trained)
    assert sum(one["share"] for one in rows(figures["cost"])) == pytest.approx(1)


def test_the_map_has_the_worker_that_evaluated(figures: dict[str, Figure], database: sqlite3.Connection) -> None:
    (row,) = database.execute("select * from glorasearch_workers").fetchall()
    (cell,) = rows(figures["workers"])
    seconds = (datetime.fromisoformat(row["updated"]) - datetime.fromisoformat(row["since"])).total_seconds()
    assert (cell["host"], cell["process"], cell["tasks"]) == (row["host"], row["process"], row["tasks"])
    assert cell["share"] == pytest.approx(row["busy"] / seconds)
    assert cell["state"] == "takes tasks"
    assert "1 of 1 worker took tasks" in figures["workers"].caption


def test_what_judges_a_race_is_named_in_words(raced: Bench) -> None:
    facts = RunFacts.read(raced.database_url, NAME, Path(raced.workspace) / "runs" / NAME)
    stages = raced.record.stages
    results = Results(stages | {"race": stages["race"] | {"judge": "tempered"}})
    (race,) = (one for one in figures_of(replace(facts, results=results)) if one.key == "race")
    assert "; the race is judged by tempered cross-entropy. Lines: " in race.caption
