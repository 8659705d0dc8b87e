"""Images with several labels from a CSV to report, export and predictions; what does not fit them is refused."""

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
from huggingface_hub import ModelCard
from sklearn import metrics as sk
from support.labelled import LABELS, labels_of, write_labelled

import glorasearch
from glorasearch.data.sources.digits import read_digits
from glorasearch.export import Adapter

Bench = Any
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def overrides(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    path = write_labelled(tmp_path_factory.mktemp("labelled"), 500)
    sizes = ("data.train=300", "data.search=100", "data.test=100")
    return (f"data.source=csv:{path}", "data.task=multilabel", *sizes, "search.eval_batch_size=5", "search.parents=2")


@pytest.fixture(scope="module")
def finished(make_bench: Callable[..., Bench], overrides: tuple[str, ...]) -> Bench:
    bench = make_bench(*overrides, "refit.folds=2", "train.lr=1e-2")
    bench.finish()
    return bench


def test_the_report_has_the_metrics_of_labels(finished: Bench, call: Call) -> None:
    report = finished.report
    rows = list(csv.DictReader((finished.folder / "predictions.csv").open()))
    shares = np.array([[float(row[f"probability of {name}"]) for name in LABELS] for row in rows])
    digits = read_digits().train
    targets = np.array([labels_of(int(digits.labels[int(Path(row["file"]).stem)])) for row in rows])
    named = [[name for name, has in zip(LABELS, target, strict=True) if has] for target in targets]
    assert [row["label"] for row in rows] == ["; ".join(names) for names in named]
    expected = {
        "subset_accuracy": sk.accuracy_score(targets, shares > 0.5),
        "map": sk.average_precision_score(targets, shares),
        "macro_f1": sk.f1_score(targets, shares > 0.5, average="macro"),
        "micro_f1": sk.f1_score(targets, shares > 0.5, average="micro"),
        "auc": sk.roc_auc_score(targets, shares),
        "log_loss_tempered": sk.log_loss(targets.ravel(), shares.ravel()),
    }
    found = {name: one["value"] for name, one in report["metrics"].items()}
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    assert report["winner"]["test_accuracy"] == expected["subset_accuracy"]
    assert expected["auc"] > 0.7, "something was learnt"
    by_label = {one["name"]: one["auc"] for one in report["by_class"]}
    assert by_label == pytest.approx({n: sk.roc_auc_score(targets[:, i], shares[:, i]) for i, n in enumerate(LABELS)})
    assert (report["splits"]["task"], report["confusion"]) == ("multilabel", [])
    assert report["search"]["stopped_early"] > 0
    assert report["refit"]["judged"]["correct"] > 0
    assert any("counts as right if all of its labels are" in line for line in report["statements"])
    assert set(report["baselines"]["lora"]["metrics"]) == set(found) - {"log_loss_tempered"}
    code, out, _ = call("show", "tiny", *finished.place)
    assert (code, "mean average precision" in out, "subset accuracy" in out) == (0, True, True)


def test_the_export_says_every_label(finished: Bench, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    export = finished.folder / "export"
    rows = list(csv.DictReader((finished.folder / "predictions.csv").open()))[:5]
    files = [row["file"] for row in rows]
    code, out, _ = call("predict", "tiny", *files, "--json", *finished.place)
    assert code == 0
    said = json.loads(out)["predictions"]
    for row, one in zip(rows, said, strict=True):
        shares = {each["label"]: each["probability"] for each in one["top"]}
        assert shares == pytest.approx({name: float(row[f"probability of {name}"]) for name in LABELS}, abs=1e-4)
    (first,) = glorasearch.predict_images(export, files[:1], top=1)
    assert first.probabilities == pytest.approx([max(each["probability"] for each in said[0]["top"])], abs=1e-5)
    model = timm.create_model(f"local-dir:{export}", pretrained=True)
    assert (model.num_classes, model.pretrained_cfg["label_names"]) == (3, list(LABELS))
    card = (export / "README.md").read_text()
    assert "3 labels: even, large, loop" in card
    program = card.split("```python\n")[1].split("```")[0].replace("PATH", str(export)).replace("IMAGE", files[0])
    with torch.random.fork_rng():
        exec(compile(program, "card", "exec"), {})
    printed = [line.rsplit(" ", 1) for line in capsys.readouterr().out.splitlines()[-3:]]
    assert {name: float(share) for name, share in printed} == pytest.approx(
        {name: float(rows[0][f"probability of {name}"]) for name in LABELS}, abs=1e-4
    )


def test_other_formats_say_every_label(finished: Bench, call: Call) -> None:
    formats = ("--format", "adapter", "--format", "safetensors")
    code, _, err = call("export", "tiny", *formats, "--quiet", *finished.place)
    assert code == 0, err
    folder = finished.folder
    adapter = Adapter.load(folder / "export-adapter")
    assert (adapter.task.kind, len(adapter.class_names)) == ("multilabel", adapter.facts["num_classes"])
    card = ModelCard.load(folder / "export-safetensors" / "README.md")
    assert "multi-label" in card.data.tags
    assert "An image has any number of the labels" in card.text
    assert call("verify", str(folder / "export-adapter"), *finished.place)[0] == 0


def test_another_point_is_a_run_of_its_own(finished: Bench, call: Call) -> None:
    trial = finished.report["front"][0]["trial"]
    code, out, err = call("export", "tiny", "--trial", str(trial), "--json", "--quiet", *finished.place)
    assert code == 0, err
    point = json.loads(out)
    assert (point["point"]["trial"], "map" in point["metrics"]) == (trial, True)


def test_candidates_that_stop_early_change_nothing(
    finished: Bench, make_bench: Callable[..., Bench], overrides: tuple[str, ...]
) -> None:
    patient = make_bench(*overrides, "train.lr=1e-2", "search.early_stopping=false")
    patient.finish("train")
    patient.finish("search")
    one, other = (bench.record.stages["search"] for bench in (finished, patient))
    for name in ("trial", "digest", "search_accuracy", "search_tempered", "search_fitness"):
        assert one[name] == other[name]
    assert other["stopped_early"] == 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.fitness=macro_f1", "search.fitness is 'macro_f1', but an image has any number of labels"),
        ("train.balance=loss", "train.balance is 'loss', which balances classes"),
        ("train.huber_delta=1", "train.huber_delta is 1, but Huber's loss is of numbers"),
        (
            'report.metrics=["top5", "map"]',
            "report.metrics has top5; with data.task 'multilabel' there are subset",
        ),
        ("report.flips=true", "report.flips averages the probabilities of classes"),
        ("data.task=classify", "several labels an image need data.task"),
    ],
)
def test_what_does_not_fit_is_refused_before_work_starts(
    make_bench: Callable[..., Bench], overrides: tuple[str, ...], call: Call, override: str, message: str
) -> None:
    bench = make_bench(*overrides, override)
    code, _, err = call(*bench.arguments("run"))
    assert (code, message in " ".join(err.split())) == (2, True), err
    assert not bench.folder.exists()
