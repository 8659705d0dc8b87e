"""A run with a race: who takes part, what is picked, refitted and exported; killed at several moments, it goes on."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from support.curves import csv_points

from glorasearch.cli.main import run as command_line
from glorasearch.db import RaceStore, RunStore, TrialStorage
from glorasearch.figures import RunFacts, figures_of
from glorasearch.runs.results import RaceResult, RefitResult, Results
from glorasearch.runs.spent import taken_over

Bench = Any
MakeBench = Callable[..., Bench]
RACE = (
    "race.enabled=true", 'race.methods=["lora", "ssf", "linear_probe"]', "race.rates=[1e-3, 1e-2]", "race.finalists=2",
    "race.named=1", "race.steps=24", "race.folds=3", "race.rungs=[1]", "race.keep=3", "race.stack=2",
    "train.checkpoint_every=10", "refit.teachers=4", "refit.orders=2", "refit.teacher_steps=100", "refit.mixed=40",
    "refit.steps=120",
    "report.baselines=[]", "report.random_subnets=0", "report.steps=20", "search.trials=32", "train.steps=20",
)  # fmt: skip
"""Six entrants at two rates on one fold, then the best three on two more: 12 + 6 trainings."""
CANDIDATES, TRAININGS = 12, 18


@pytest.fixture(scope="module")
def raced(make_bench: MakeBench) -> Bench:
    """A finished run with a race; not to be changed by any test."""
    bench = make_bench(*RACE)
    bench.finish()
    return bench


def members(bench: Bench) -> int:
    """Trainings of the race that are in the database."""
    return int(bench.count("select count(*) from glorasearch_race_members"))


def results(bench: Bench) -> Results:
    return Results(bench.record.stages)


def test_everybody_races_and_the_best_is_refitted(raced: Bench) -> None:
    assert list(raced.record.stages) == [
        "train", "search", "race", "refit", "baseline:best_fixed", "test", "export", "report"
    ]  # fmt: skip
    found = results(raced)
    race, refit = found.race, found.refit
    assert race is not None
    assert refit is not None
    names = [candidate.name for candidate in race.candidates]
    kinds = {candidate.name: candidate.kind for candidate in race.candidates}
    assert (len(names), sorted(kinds.values())) == (
        CANDIDATES, ["method", "method", "method", "named", "searched", "searched"]
    )  # fmt: skip
    assert {candidate.rate for candidate in race.candidates} == {1e-3, 1e-2}
    assert (race.trainings, race.steps) == (TRAININGS, TRAININGS * 24)
    assert [candidate.last.folds for candidate in race.candidates] == [3] * 3 + [1] * 9
    assert [candidate.last.images for candidate in race.candidates[:3]] == [300] * 3
    (last,) = (one for one in RunStore(raced.database_url).progress("tiny") if one.stage == "race")
    assert last.note == f"{race.winner.label} won with {100 * (race.winner.last.accuracy or 0):.1f} %"
    scores = [candidate.last.accuracy for candidate in race.candidates[:3]]
    assert scores == sorted(scores, reverse=True)
    assert max(scores) > 0.2  # there are ten classes
    assert refit.teachers is not None
    assert (refit.teachers.count, refit.teachers.steps, refit.steps, refit.taught) == (4, 400, 120, True)
    assert refit.teachers.own_accuracy is not None
    assert refit.teachers.own_accuracy >= race.winner.last.accuracy
    assert len(refit.teachers.names) == 2
    (cost,) = (one for one in figures_of(RunFacts.read(raced.database_url, "tiny")) if one.key == "cost")
    took = {row["stage"]: row["seconds"] for row in cost.spec["data"]["values"]}
    assert took["refit"] == pytest.approx(refit.seconds + refit.teachers.seconds), "with its teachers"
    assert refit.lr == race.pick.rate
    stored = RaceStore(raced.database_url).list("tiny")
    assert len(stored) == TRAININGS
    best = [one for one in stored if one.label == race.winner.label]
    assert race.winner.last.accuracy == sum(one.correct for one in best) / sum(one.images for one in best)
    storage = TrialStorage(raced.database_url)
    assert storage.get_study_user_attrs(storage.get_study_id_from_name("tiny"))["race"]["winner"] == race.winner.label


def test_the_export_is_the_pick_and_the_report_says_who_won(
    raced: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    race = results(raced).race
    assert race is not None
    report = raced.report
    assert report["winner"]["digest"] == race.pick.digest
    assert report["winner"]["kind"] == race.pick.kind
    assert report["baselines"]["best_fixed"]["space"] == race.best_fixed.name  # type: ignore[union-attr]
    assert report["baselines"]["best_fixed"]["lr"] == race.best_fixed.rate  # type: ignore[union-attr]
    card = (raced.folder / "export" / "README.md").read_text()
    assert race.verdict() in card
    assert "out_of_fold_accuracy" in card
    model = timm.create_model(f"local-dir:{raced.folder / 'export'}", pretrained=True)
    with torch.no_grad():
        assert model(torch.zeros(1, 1, 28, 28)).shape == (1, 10)
    monkeypatch.setenv("COLUMNS", "120")
    assert command_line(["show", "tiny", *raced.place]) == 0
    table, shown = (own := capsys.readouterr().out).splitlines(), " ".join(own.split())
    assert race.verdict() in shown
    assert f"winner, {race.winner.label}, taught" in shown
    edges = [line for line in table if line[:1] in tuple("┃│")]
    assert max(map(len, edges)) > 80
    assert all(line[0] == line[-1] for line in edges), "no row of a table is broken"
    assert command_line(["show", "tiny", "--json", *raced.place]) == 0
    content = json.loads(capsys.readouterr().out)
    assert len(content["race_members"]) == TRAININGS
    assert {member["rung"] for member in content["race_members"]} == {1, 2}
    steps = [row["step"] for row in content["metrics"] if (row["stage"], row["name"]) == ("race", "best_accuracy")]
    assert steps[-1] == TRAININGS
    rungs = csv_points(raced.curves, "rungs")
    for candidate in race.candidates:
        assert rungs[f"accuracy/{candidate.label}"] == [(one.rung, one.accuracy) for one in candidate.scores]
        assert rungs[f"tempered/{candidate.label}"] == [(one.rung, one.tempered) for one in candidate.scores]
    assert [step for step, _ in csv_points(raced.curves, "race")["best_accuracy"]] == steps
    for stage, last in (("refit:teachers-0", 100), ("refit:taught", 120)):
        points = csv_points(raced.curves, stage)
        assert points["loss"][-1][0] == points["images_per_second"][-1][0] == last


def test_a_finished_race_is_answered_from_the_database(raced: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    before = members(raced)
    assert command_line([*raced.arguments("race"), "--json", "--quiet"]) == 0
    found = RaceResult.from_json(json.loads(capsys.readouterr().out))
    assert found == results(raced).race
    assert members(raced) == before


def test_killed_and_resumed_it_ends_with_the_same_bits(make_bench: MakeBench, raced: Bench) -> None:
    bench = make_bench(*RACE)
    checkpoints = bench.folder / "checkpoints"
    moments: list[tuple[str, Callable[[], bool]]] = [
        ("race", lambda: members(bench) >= 4),
        ("race", lambda: any(checkpoints.glob("race-1-*")) and members(bench) >= 8),
        ("race", lambda: members(bench) >= 14),
        ("refit", lambda: any(checkpoints.glob("refit-teachers-*"))),
        ("refit", lambda: (checkpoints / "refit-targets.safetensors").exists()),
        ("refit", (checkpoints / "refit-taught.safetensors").exists),
    ]
    in_time = 0
    for stage, condition in moments:
        code = bench.stop_when(
            lambda stage=stage, condition=condition: condition() or bench.has_stage(stage), bench.start()
        )
        in_time += code == -signal.SIGKILL and not bench.has_stage(stage)
    assert in_time >= 3, "the kills came too late"
    bench.finish()
    expected, found = raced.outcome(), bench.outcome()
    for part in ("report", "stages", "trials", "weights", "export", "files"):
        assert found[part] == expected[part], part
    stored, before = (RaceStore(one.database_url).list("tiny") for one in (bench, raced))
    assert [(one.candidate, one.fold, one.correct, one.nats) for one in stored] == [
        (one.candidate, one.fold, one.correct, one.nats) for one in before
    ]


@pytest.mark.parametrize(("method", "choices"), [("lora_r8", {"lora:8"}), ("ssf", {"gain", "vector", "none"})])
def test_a_fixed_method_that_wins_is_exported_in_its_own_space(
    make_bench: MakeBench, method: str, choices: set[str]
) -> None:
    """Also one with a recipe of its own, which is called by the rate of the race everywhere."""
    alone = (
        *RACE,
        f'race.methods=["{method}"]',
        "race.named=0",
        "race.finalists=0",
        "refit.teachers=0",
        "race.rates=[1e-2]",
    )
    bench = make_bench(*alone, "refit.steps=20")
    said = bench.finish()
    race, report = results(bench).race, bench.report
    assert race is not None
    assert (race.pick.name, race.pick.space_key) == (method, f"race.methods.{method}")
    assert {choice for tensors in report["winner"]["subnet"].values() for choice in tensors.values()} <= choices
    assert (report["winner"]["kind"], report["winner"]["trial"], report["winner"]["search_accuracy"]) == (
        "method", None, None
    )  # fmt: skip
    assert f"{method} at 0.01 won the race with" in said
    assert f"baseline best_fixed: {method} is what was refitted, not trained a second time" in said
    assert report["baselines"]["best_fixed"]["test_accuracy"] == report["winner"]["test_accuracy"]
    assert report["baselines"]["best_fixed"]["lr"] == race.pick.rate == 1e-2
    assert taken_over(bench.record) == {"baseline:best_fixed": "the refit"}, "it cost nothing"
    (cost,) = (one for one in figures_of(RunFacts.read(bench.database_url, "tiny")) if one.key == "cost")
    assert {"refit"} == {row["stage"] for row in cost.spec["data"]["values"]} & {"refit", "baseline:best_fixed"}
    refit = results(bench).refit
    assert isinstance(refit, RefitResult)
    assert (refit.teachers, refit.start) == (None, "fresh")
    assert race.verdict() in (bench.folder / "export" / "README.md").read_text()


def test_a_run_of_a_fixed_method_races_its_rates(make_bench: MakeBench) -> None:
    """Taught for a few steps it knows less than the race has shown: it is trained on the labels."""
    bench = make_bench(*RACE, "space.name=lora", "refit.teacher_steps=10", "refit.steps=80")
    bench.stop_when(lambda: bench.checkpoint("refit").exists() or bench.has_stage("refit"), bench.start())
    said = bench.finish()
    race, refit = results(bench).race, results(bench).refit
    assert race is not None
    assert refit is not None
    assert refit.teachers is not None
    assert "of its own training images, fewer than the" in said
    assert (refit.taught, refit.steps, refit.teachers.steps) == (False, 80, 4 * 10 + 80)
    assert "so it was trained on the labels" in bench.report["statements"][1]
    assert "teachers" not in (bench.folder / "export" / "README.md").read_text()
    assert sorted((candidate.name, candidate.rate) for candidate in race.candidates) == [("lora", 1e-3), ("lora", 1e-2)]
    assert race.pick.own_space
    assert "baseline:best_fixed" not in bench.record.stages
    assert bench.report["refit"]["teachers"]["names"] == [candidate.label for candidate in race.candidates]


def test_a_method_that_cannot_race_is_refused_before_the_training(
    make_bench: MakeBench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resnets = tmp_path / "resnets.toml"
    resnets.write_text('[layers]\ninclude = ["layer?.*"]\n[choices]\nB = ["lora:2"]\n')
    for override, message in (
        ('race.methods=["lean"]', "race.methods: 'lean' has more than one subnet; expected a fixed method"),
        (f'race.methods=["{resnets}"]', "matches none of"),
        ('race.methods=["no_such"]', "race.methods: no search space 'no_such'"),
        ('report.baselines=["no_such"]', "report.baselines: no search space 'no_such'"),
        ("race.folds=400", "race.folds is 400, but train + search have 300 images; allowed are 2 to 300"),
        ("refit.steps=0", "refit.steps is 0, which keeps the supernet's weights"),
    ):
        bench = make_bench(*RACE, override)
        assert command_line(bench.arguments("run", "--quiet")) == 2
        assert message in capsys.readouterr().err
        assert not bench.has_stage("train")


def test_a_race_of_nobody_is_refused_before_the_training(
    make_bench: MakeBench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = make_bench(*RACE, "race.methods=[]", "race.named=0", "race.finalists=0")
    assert command_line(bench.arguments("run", "--quiet")) == 2
    assert "race: nobody takes part" in capsys.readouterr().err
    assert not bench.has_stage("train")


def test_methods_above_the_budget_are_left_out_and_named(make_bench: MakeBench) -> None:
    bench = make_bench(*RACE, "space.max=2000", 'race.methods=["lora", "ssf"]', "refit.teachers=0")
    said = bench.finish()
    race = results(bench).race
    assert race is not None
    assert "race: without lora: 3,072 parameters, above the budget of 2,000" in said
    assert race.left_out.keys() == {"lora"}
    assert all(candidate.parameters <= 2000 for candidate in race.candidates)


def test_inherited_starts_are_judged_on_the_search_split_alone(make_bench: MakeBench) -> None:
    bench = make_bench(*RACE, 'race.starts=["fresh", "inherited"]', "refit.teachers=0")
    bench.finish()
    race = results(bench).race
    assert race is not None
    inherited = [candidate for candidate in race.candidates if candidate.start == "inherited"]
    assert {candidate.kind for candidate in inherited} == {"named", "searched"}
    assert sum(candidate.last.images for candidate in race.candidates[:3]) == 300  # 100 each, of 300 in all
    assert bench.report["refit"]["start"] == race.pick.start


def test_a_named_point_that_only_raced_is_no_start_of_the_search(make_bench: MakeBench) -> None:
    """Nor has a race of one named point use for what the search finds."""
    alone = "race.methods=[]", "race.finalists=0", "race.named=1", "search.start=[]", "refit.teachers=0"
    bench = make_bench(*RACE, *alone)
    said = bench.finish()
    winner = bench.report["winner"]
    assert (winner["kind"], winner["start"], winner["start_share"]) == ("named", None, None)
    assert "race.finalists is 0: nothing that the search finds takes part" in said
