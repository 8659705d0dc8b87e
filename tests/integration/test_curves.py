"""The curves that a run writes, read back and compared with the database; killed and started again, it has each point
once."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.curves import as_float32, csv_points, event_points
from support.runs import NAME

from glorasearch.db import RunStore, TrialStorage
from glorasearch.runs.results import Results
from glorasearch.search.trials import scored_trials

Bench = Any
MakeBench = Callable[..., Bench]
Call = Callable[..., tuple[int, str, str]]


def measured(bench: Bench) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Stage → number → its points, by the table of measurements."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for row in RunStore(bench.database_url).metrics(NAME):
        found.setdefault(row.stage, {}).setdefault(row.name, []).append((row.step, row.value))
    return found


def check_search(bench: Bench, points: dict[str, list[tuple[int, float]]]) -> None:
    """Its curve is that of the trials, which finish in the order of their numbers in one process."""
    storage = TrialStorage(bench.database_url)
    trials = scored_trials(storage.outlines(storage.get_study_id_from_name(NAME)))
    whole = {trial.number: trial.score for trial in trials if not trial.score.stopped_early}
    assert points["trial"] == [(number + 1, float(number)) for number in range(48)]
    assert points["accuracy"] == [(number + 1, score.accuracy) for number, score in whole.items()]
    assert points["fitness"] == [(number + 1, score.tempered) for number, score in whole.items()]
    assert points["parameters"] == [(trial.number + 1, float(trial.parameters)) for trial in trials]
    best = [value for _, value in points["best_fitness"]]
    assert best == [min(whole[one].tempered for one in whole if one <= number) for number in range(48)]
    found = Results(bench.record.stages).search
    assert found is not None
    assert (best[-1], points["best_accuracy"][-1][1]) == (found.search_tempered, found.search_accuracy)
    assert points["best_parameters"][-1] == (48, float(found.parameters))


def check_tables(bench: Bench) -> None:
    for stage, wanted in measured(bench).items():
        assert csv_points(bench.curves, stage) == wanted, stage
    check_search(bench, csv_points(bench.curves, "search"))
    tested, test = Results(bench.record.stages).test, csv_points(bench.curves, "test")
    assert tested is not None
    assert test["accuracy"] == [(0, tested.test_accuracy)]
    assert test["baseline/lora/accuracy"] == [(0, tested.baselines["lora"])]
    assert test["macro_f1"] == [(0, tested.metrics["macro_f1"].value)]


def check_events(bench: Bench) -> None:
    """The same points as in the tables, which are no shorter than the database."""
    wanted = {}
    for stage in (*measured(bench), "search", "test"):
        for name, points in csv_points(bench.curves, stage).items():
            wanted[f"{stage.replace(':', '/')}/{name}"] = points
    assert event_points(bench.curves) == as_float32(wanted)


def test_tables_have_what_the_database_has(undisturbed: Bench) -> None:
    assert set(measured(undisturbed)) == {"train", "refit", "baseline:lora"}
    assert measured(undisturbed)["train"].keys() >= {"loss", "lr", "images_per_second", "search_accuracy_largest"}
    check_tables(undisturbed)


def test_tensorboard_reads_the_same(undisturbed: Bench) -> None:
    check_events(undisturbed)


@pytest.fixture(scope="module")
def killed(make_bench: MakeBench) -> tuple[Bench, str]:
    """A run that was killed past a checkpoint of its training, and in its search; and its table before that."""
    bench = make_bench()
    process = bench.start()
    bench.stop_when(lambda: bench.checkpoint("train").exists() and bench.steps("train") >= 35, process)
    before = (bench.curves / "train.csv").read_text()
    process = bench.start()
    assert bench.stop_when(lambda: bench.trials() >= 10, process) == -signal.SIGKILL
    bench.finish()
    return bench, before


def test_a_run_that_was_killed_has_each_point_once(killed: tuple[Bench, str], undisturbed: Bench) -> None:
    bench, before = killed
    check_tables(bench)
    assert bench.outcome()["curves"] == undisturbed.outcome()["curves"]
    kept = before.splitlines()[: 1 + 20 // 5]  # up to the checkpoint, with their times
    assert kept[1:] == [line[: len(first)] for line, first in zip(lines(bench)[1:], kept[1:], strict=False)]
    assert lines(bench)[0].startswith(kept[0])


def lines(bench: Bench) -> list[str]:
    content: str = (bench.curves / "train.csv").read_text()
    return content.splitlines()


def test_tensorboard_reads_each_point_of_a_killed_run_once(killed: tuple[Bench, str]) -> None:
    check_events(killed[0])


def test_the_command_prints_what_the_tables_have(undisturbed: Bench, call: Call) -> None:
    code, out, err = call("curves", NAME, *undisturbed.place, "--json")
    assert (code, err) == (0, "")
    content = json.loads(out)
    assert (content["run"], content["folder"]) == (NAME, str(undisturbed.curves))
    losses = [(row["step"], row["loss"]) for row in content["stages"]["refit"]]
    assert losses == csv_points(undisturbed.curves, "refit")["loss"]
    code, out, _ = call("curves", NAME, *undisturbed.place, "--csv", "--stage", "train", "--stage", "test")
    rows = [line.split(",") for line in out.splitlines()]
    assert rows[0] == ["stage", "step", "name", "value"]
    assert {row[0] for row in rows[1:]} == {"train", "test"}
    found = [(int(step), float(value)) for _, step, name, value in rows[1:] if name == "gradient_norm"]
    assert found == csv_points(undisturbed.curves, "train")["gradient_norm"]
    code, out, _ = call("curves", NAME, *undisturbed.place)
    assert code == 0
    opened = f"curves: tensorboard --logdir {undisturbed.curves}"
    assert opened in out.replace("\n", "")
    assert opened in call("show", NAME, *undisturbed.place)[1]
    assert json.loads(call("show", NAME, *undisturbed.place, "--json")[1])["curves"] == str(undisturbed.curves)
    assert opened in undisturbed.errors()


def test_the_command_refuses_what_there_is_not(undisturbed: Bench, call: Call) -> None:
    code, out, err = call("curves", NAME, *undisturbed.place, "--stage", "trian")
    assert (code, out) == (2, "")
    assert "--stage trian: run 'tiny' has no such curves; it has " in err
    code, _, err = call("curves", NAME, *undisturbed.place, "--csv", "--json")
    assert code == 2
    assert "--csv and --json are both given" in err


def test_a_place_that_cannot_be_written_ends_nothing(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("train.steps=10", "refit.steps=0", "search.trials=16", "report.baselines=[]", workspace=tmp_path)
    bench.folder.mkdir(parents=True)
    bench.curves.write_text("in the way")
    errors = bench.finish()
    assert errors.count("cannot be written (File exists); the run goes on") == 1
    assert f"curves: {bench.curves}\n" not in errors
    assert bench.record.state == "finished"
    assert bench.curves.read_text() == "in the way"


def test_only_what_is_asked_for_is_written(make_bench: MakeBench) -> None:
    bench = make_bench(
        "train.steps=10", "refit.steps=0", "search.trials=16", "report.baselines=[]", 'log.to=["csv"]',
        "log.search_every=6",
    )  # fmt: skip
    bench.finish()
    assert {path.suffix for path in bench.curves.iterdir()} == {".csv"}
    assert [step for step, _ in csv_points(bench.curves, "search")["trial"]] == [1, 6, 12, 16]
    assert f"curves: {bench.curves}\n" in bench.errors()
