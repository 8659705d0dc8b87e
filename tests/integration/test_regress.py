"""Images with numbers from a CSV to report, export and predictions; what does not fit them is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from sklearn import metrics as sk
from support.numbers import TARGETS, write_numbers

import glorasearch
from glorasearch.runs.results import Results

Bench = Any
Call = Callable[..., tuple[int, str, str]]
RACE = (
    "race.enabled=true", 'race.methods=["lora"]', "race.rates=[1e-3, 1e-2]", "race.finalists=1", "race.named=0",
    "race.steps=30", "race.folds=3", "race.rungs=[1]", "race.keep=2", "refit.teachers=2", "refit.orders=1",
    "refit.teacher_steps=60", "refit.mixed=60", "refit.steps=160", "report.baselines=[]", "report.random_subnets=0",
    "report.steps=20", "search.trials=8", "search.parents=2", "train.steps=20", "train.mixup=0.4", "train.cutmix=1.0",
)  # fmt: skip


@pytest.fixture(scope="module")
def overrides(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    path = write_numbers(tmp_path_factory.mktemp("numbers"), 400)
    sizes = ("data.train=200", "data.search=100", "data.test=100")
    return (f"data.source=csv:{path}", "data.task=regress", *sizes, "search.eval_batch_size=5", "search.parents=2")


@pytest.fixture(scope="module")
def finished(make_bench: Callable[..., Bench], overrides: tuple[str, ...]) -> Bench:
    bench = make_bench(*overrides, "refit.folds=2", "train.lr=1e-2")
    bench.finish()
    return bench


def table(bench: Bench) -> tuple[list[str], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Files, targets and predictions of the test images."""
    rows = list(csv.DictReader((bench.folder / "predictions.csv").open()))
    wanted = np.array([[float(row[name]) for name in TARGETS] for row in rows])
    return (
        [row["file"] for row in rows],
        wanted,
        np.array([[float(row[f"predicted {n}"]) for n in TARGETS] for row in rows]),
    )


def test_the_report_is_in_the_units_of_the_targets(finished: Bench, call: Call) -> None:
    report, (_, wanted, found) = finished.report, table(finished)
    expected = {
        "r2": sk.r2_score(wanted, found),
        "mae": sk.mean_absolute_error(wanted, found),
        "rmse": sk.root_mean_squared_error(wanted, found),
    }
    assert {name: one["value"] for name, one in report["metrics"].items()} == pytest.approx(expected, rel=1e-4)
    assert all(one["interval"] is not None for one in report["metrics"].values())
    std = np.array([one["std"] for one in report["splits"]["standards"]])
    assert report["winner"]["test_error"] == pytest.approx((((wanted - found) / std) ** 2).mean(), rel=1e-4)
    assert report["winner"]["test_error"] < 0.8, "something was learnt"
    assert [one["name"] for one in report["by_target"]] == list(TARGETS)
    assert (report["winner"]["test_accuracy"], report["by_class"], report["confusion"]) == (None, [], [])
    assert (report["search"]["fitness"], report["temperature"]) == ("squared_error", None)
    assert report["search"]["stopped_early"] > 0
    assert report["refit"]["judged"]["error"] > 0
    assert any("in mean squared error (95 %:" in line for line in report["statements"])
    assert not any("points (95 %" in line or "is right on" in line for line in report["statements"])
    code, out, _ = call("show", "tiny", *finished.place)
    assert (code, "root mean squared error" in out, "nan" in out) == (0, True, False)
    code, out, err = call("compare", "tiny", *finished.place)
    assert (code, "test, MSE" in out, "test, %" in out) == (0, True, False), err
    assert "MSE 0." in call("runs", *finished.place)[1]


def test_splits_are_alike(finished: Bench) -> None:
    rows = list(csv.DictReader((finished.folder / "splits.csv").open()))
    prices = {
        role: [float(row["label"].split("; ")[0]) for row in rows if row["split"] == role] for role in ("train", "test")
    }
    assert np.mean(prices["test"]) == pytest.approx(np.mean(prices["train"]), abs=12), "they are stratified"


def test_the_export_answers_in_units_without_glorasearch(
    finished: Bench, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    export, (files, _, expected) = finished.folder / "export", table(finished)
    code, out, _ = call("predict", "tiny", *files[:4], "--json", *finished.place)
    assert code == 0
    said = [[one["numbers"][name] for name in TARGETS] for one in json.loads(out)["predictions"]]
    assert np.array(said) == pytest.approx(expected[:4], rel=1e-4)
    code, out, _ = call("predict", "tiny", files[0], "--csv", *finished.place)
    assert (code, out.splitlines()[0]) == (0, "file,price,ink,error")
    with pytest.raises(glorasearch.InputError, match="answers with numbers"):
        glorasearch.predict_images(export, files[:1], top=2)
    assert timm.create_model(f"local-dir:{export}", pretrained=True).num_classes == 2
    card = (export / "README.md").read_text()
    assert "Outputs are numbers in the targets' own units" in card
    assert "image-classification" not in card
    program = card.split("```python\n")[1].split("```")[0].replace("PATH", str(export)).replace("IMAGE", files[0])
    with torch.random.fork_rng():
        exec(compile(program, "card", "exec"), {})
    printed = dict(line.rsplit(" ", 1) for line in capsys.readouterr().out.splitlines()[-2:])
    assert [float(printed[name]) for name in TARGETS] == pytest.approx(expected[0].tolist(), rel=1e-4)


def test_another_point_is_a_run_of_its_own(finished: Bench, call: Call) -> None:
    trial = finished.report["front"][0]["trial"]
    code, out, err = call("export", "tiny", "--trial", str(trial), "--json", "--quiet", *finished.place)
    assert code == 0, err
    assert json.loads(out)["winner"]["test_error"] > 0


def test_candidates_that_stop_early_change_nothing(
    finished: Bench, make_bench: Callable[..., Bench], overrides: tuple[str, ...]
) -> None:
    patient = make_bench(*overrides, "train.lr=1e-2", "search.early_stopping=false")
    patient.finish("train")
    patient.finish("search")
    one, other = (bench.record.stages["search"] for bench in (finished, patient))
    for name in ("trial", "digest", "search_fitness"):
        assert one[name] == other[name]
    assert other["stopped_early"] == 0


def test_numbers_race(make_bench: Callable[..., Bench], overrides: tuple[str, ...], call: Call) -> None:
    bench = make_bench(*overrides, *RACE)
    bench.finish()
    results = Results(bench.record.stages)
    assert results.race is not None
    assert results.refit is not None
    best = results.race.winner.last
    assert (results.race.judge, best.accuracy, best.tempered, best.folds) == ("squared_error", None, None, 3)
    assert best.judged is not None
    assert best.judged < 1, "better than the mean of the training images"
    judged = [one.last.judged for one in results.race.candidates if one.last.folds == 3]
    assert judged == sorted(judged, key=lambda one: one or 0.0)
    assert results.refit.teachers is not None
    assert results.refit.teachers.own_error is not None
    assert any("won the race with squared error" in line for line in bench.report["statements"])
    code, out, err = call("compare", "tiny", *bench.place)
    assert (code, "out of fold, MSE" in out) == (0, True), err


def test_nsga2_breeds_by_the_error(make_bench: Callable[..., Bench], overrides: tuple[str, ...]) -> None:
    bench = make_bench(*overrides, "train.lr=1e-2", "search.sampler=nsga2", "train.steps=10", "search.trials=20")
    bench.finish("train")
    bench.finish("search")
    front = bench.record.stages["search"]["pareto"]
    assert all(set(one["objectives"]) == {"squared_error"} for one in front)


def test_outliers_pull_less_with_hubers_loss(make_bench: Callable[..., Bench], tmp_path: Path) -> None:
    """Every twentieth number is wrong by 100 deviations; after all stages what is said of the others is better."""
    source = write_numbers(tmp_path, 400, 1)
    rows = list(csv.reader(source.open()))
    for row in rows[1::20]:
        row[1] = str(float(row[1]) + 7_000)
    with source.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    errors, weights = [], []
    for delta in ("0", "0.1"):
        sizes = ("data.train=200", "data.search=100", "data.test=100", "search.eval_batch_size=5", "data.task=regress")
        fewer = ("race.rates=[1e-2]", "refit.teachers=1", "refit.teacher_steps=40", "refit.mixed=40", "train.lr=1e-2")
        bench = make_bench(f"data.source=csv:{source}", *sizes, *RACE, *fewer, f"train.huber_delta={delta}")
        bench.finish()
        test = list(csv.DictReader((bench.folder / "predictions.csv").open()))
        right = [one for one in test if float(one["price"]) < 5_000]
        assert len(right) < len(test), "the report has them, too"
        errors.append(np.mean([abs(float(one["price"]) - float(one["predicted price"])) for one in right]))
        weights.append(bench.record.stages["train"]["weights"])
    assert weights[0] != weights[1]
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.fitness=accuracy", "search.fitness is 'accuracy', but targets are numbers"),
        ("race.judge=tempered", "race.judge is 'tempered'; with data.task 'regress' take squared_error"),
        ("train.balance=loss", "train.balance is 'loss', which balances classes, but targets are numbers"),
        ("train.label_smoothing=0.1", "train.label_smoothing is 0.1, but targets are numbers"),
        ('report.metrics=["top1"]', "report.metrics has top1; with data.task 'regress' there are r2, mae, rmse"),
        ("report.flips=true", "report.flips averages the probabilities of classes"),
        ("data.task=classify", 'and numbers "regress"'),
        ("data.source=digits", "task is 'regress', but the images of 'digits' have one class each"),
    ],
)
def test_what_does_not_fit_is_refused_before_work_starts(
    make_bench: Callable[..., Bench], overrides: tuple[str, ...], call: Call, override: str, message: str
) -> None:
    bench = make_bench(*overrides, override)
    code, _, err = call(*bench.arguments("run"))
    assert (code, message in " ".join(err.split())) == (2, True), err
    assert not bench.folder.exists()
