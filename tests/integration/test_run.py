"""The whole run at a tiny size: the report, the files, the exported model and the trials."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.stats import binomtest
from sklearn import metrics as oracle

from glorasearch import load_export
from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.cli.main import run as command_line
from glorasearch.data import DataConfig, InputSpec, load_splits
from glorasearch.db import RunStore, TrialStorage, WorkerStore
from glorasearch.runs.results import Correct, Report

Bench = Any

SCORE = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("glorasearch", "workers", "dashboards"):
            raise ImportError(name)

sys.meta_path.insert(0, Blocker())
import timm, torch
from safetensors.torch import load_file

model = timm.create_model("local-dir:" + sys.argv[1], pretrained=True).eval()
split = load_file(sys.argv[2])
with torch.no_grad():
    print(float((model(split["images"]).argmax(-1) == split["labels"]).float().mean()))
"""

WITHOUT_TORCH = """
import sys
from glorasearch.cli.main import run

code = run(sys.argv[1:])
assert "torch" not in sys.modules, "torch was imported"
sys.exit(code)
"""


def test_report_and_files(undisturbed: Bench) -> None:
    report = undisturbed.report

    required = ["run", "backbone", "task", "space", "splits", "supernet", "search", "winner", "baselines", "export"]
    assert {*required, "versions"} <= report.keys()
    assert {"steps", "seconds"} <= report["supernet"].keys()
    assert {"sampler", "trials", "evaluated", "reused", "seconds"} <= report["search"].keys()
    winner = ["trial", "subnet", "digest", "parameters", "search_accuracy", "test_accuracy", "test_accuracy_inherited"]
    assert set(winner) <= report["winner"].keys()
    assert {"parameters", "test_accuracy"} <= report["baselines"]["lora"].keys()
    assert {"path", "max_abs_diff"} <= report["export"].keys()
    assert report["run"] == "tiny"
    assert (report["backbone"], report["task"], report["space"]) == ("vit_tiny_patch16_224", "digits", "glora_medium")
    assert report["splits"]["test"]["images"] == 200
    assert report["search"]["trials"] == report["search"]["evaluated"] + report["search"]["reused"] == 48
    assert report["export"]["path"] == str(undisturbed.folder / "export")
    assert undisturbed.record.stages["report"] == report
    assert undisturbed.outcome()["files"] == [
        "checkpoints",
        "curves",
        "curves/baseline-lora.csv",
        "curves/refit.csv",
        "curves/search.csv",
        "curves/summary.csv",
        "curves/test.csv",
        "curves/train.csv",
        "export",
        "export/README.md",
        "export/config.json",
        "export/model.safetensors",
        "predictions.csv",
        "report.json",
        "splits.csv",
    ]
    assert "test_accuracy" in (undisturbed.folder / "export" / "README.md").read_text()


def test_exported_model_scores_the_same_without_glorasearch(undisturbed: Bench, tmp_path: Path) -> None:
    args = {"img_size": 28, "patch_size": 14, "embed_dim": 24, "depth": 2, "num_heads": 2, "in_chans": 1}
    backbone = build_backbone(BackboneConfig(name="vit_tiny_patch16_224", pretrained=False, args=args), 10)
    config = DataConfig(source="digits", train=200, search=100, test=200)
    images, labels = load_splits(config, InputSpec.from_backbone(backbone)).test.batch(slice(0, 200), "cpu")
    save_file({"images": images.contiguous(), "labels": labels}, tmp_path / "test.safetensors")

    scored = subprocess.run(
        [sys.executable, "-I", "-c", SCORE, undisturbed.folder / "export", tmp_path / "test.safetensors"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert float(scored.stdout) == pytest.approx(undisturbed.report["winner"]["test_accuracy"], abs=1e-7)


def test_metrics_are_those_of_the_exported_model(undisturbed: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    report, model = Report.from_json(undisturbed.report), load_export(undisturbed.folder / "export").eval()
    config = DataConfig(source="digits", train=200, search=100, test=200)
    images, labels = load_splits(config, InputSpec.from_backbone(model)).test.batch(slice(0, 200))
    with torch.no_grad():
        logits = model(images).double()
    predicted, shares = logits.argmax(1), logits.softmax(1)
    found = {name: one.value for name, one in report.metrics.items()}
    assert found["top1"] == report.winner.test_accuracy
    assert found["top5"] == pytest.approx(oracle.top_k_accuracy_score(labels, logits, k=5))
    assert found["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(labels, predicted))
    assert found["macro_f1"] == pytest.approx(oracle.f1_score(labels, predicted, average="macro", zero_division=0))
    assert found["auc"] == pytest.approx(oracle.roc_auc_score(labels, shares, multi_class="ovr"), abs=1e-4)
    assert found["log_loss"] == pytest.approx(oracle.log_loss(labels, shares), rel=1e-4)
    assert report.confusion_matrix() == oracle.confusion_matrix(labels, predicted, labels=range(10)).tolist()
    assert [one.predicted for one in report.by_class] == np.bincount(predicted, minlength=10).tolist()
    for one in report.metrics.values():
        assert one.value is not None
        assert one.interval is not None
        assert one.interval[0] < one.value < one.interval[1]
    assert report.metrics["macro_f1"].resamples == 1000
    lora = report.baselines["lora"]
    assert lora.metrics["top1"].value == lora.test_accuracy
    assert (lora.metrics.keys(), lora.metrics["auc"].interval) == (found.keys(), None)

    assert report.best_searched.search_temperature < 1
    assert report.temperature is None  # the refit made it surer already
    exported = json.loads((undisturbed.folder / "export" / "config.json").read_text())["glorasearch"]["metrics"]
    assert "temperature" not in exported
    assert exported["test_macro_f1"] == round(found["macro_f1"], 4)
    assert command_line(["show", "tiny", "--workspace", str(undisturbed.workspace)]) == 0
    assert f"{found['macro_f1']:.3f}" in capsys.readouterr().out


def test_the_report_says_what_the_models_allow(undisturbed: Bench) -> None:
    report, stages = undisturbed.report, undisturbed.record.stages
    winner, lora = (
        np.array(Correct.from_json(found).each())
        for found in (stages["test"]["correct"], stages["test"]["baselines_correct"]["lora"])
    )
    (compared,) = (found for found in report["comparisons"] if found["baseline"] == "lora")

    assert winner.mean() == report["winner"]["test_accuracy"]
    assert lora.mean() == report["baselines"]["lora"]["test_accuracy"]
    only = int((winner & ~lora).sum()), int((lora & ~winner).sum())
    assert (compared["only_winner"], compared["only_baseline"]) == only
    assert compared["p"] == pytest.approx(binomtest(only[0], sum(only)).pvalue)
    assert compared["winner_parameters"] == report["winner"]["parameters"]
    assert compared["baseline_parameters"] == report["baselines"]["lora"]["parameters"]

    chance = report["chance"]
    assert chance == stages["search"]["chance"]
    assert (chance["fitness"], len(chance["scores"])) == (report["search"]["fitness"], 32)
    assert chance["draws"] == report["search"]["evaluated"]
    assert chance["found"] == report["best_searched"]["search_tempered"]
    assert chance["mean"] == pytest.approx(np.mean(chance["scores"]))
    assert chance["low"] < chance["expected"] < chance["mean"]

    card = (undisturbed.folder / "export" / "README.md").read_text()
    assert len(report["statements"]) >= 2
    assert all(f"- {statement}\n" in card.replace("\\", "") for statement in report["statements"])


@pytest.mark.parametrize("command", ["run", "search", "export", "runs", "show"])
def test_a_finished_run_answers_again_without_torch(command: str, undisturbed: Bench) -> None:
    place = ["--workspace", str(undisturbed.workspace), "--json"]
    arguments = {"runs": ["runs", *place], "show": ["show", "tiny", *place]}

    answer = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments.get(command, undisturbed.arguments(command, "--json"))],
        capture_output=True,
        text=True,
    )

    assert answer.returncode == 0, answer.stderr
    content = json.loads(answer.stdout)
    if command == "run":
        assert content == undisturbed.report
    elif command == "search":
        assert content["digest"] == undisturbed.report["winner"]["digest"]


def test_the_export_says_how_its_images_were_made(undisturbed: Bench) -> None:
    config = json.loads((undisturbed.folder / "export" / "config.json").read_text())["pretrained_cfg"]
    given = undisturbed.report["splits"]["input"]

    for key in ("mean", "std", "interpolation", "crop_pct", "crop_mode"):
        assert config[key] == given[key]


def test_export_goes_where_it_is_told_and_replaces_exports_only(
    copied: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter.tex").write_text("years of work")
    assert command_line(copied.arguments("run", "--quiet", "--set", f"export.path={thesis}")) == 2
    assert f"{thesis} exists and is not an exported model" in capsys.readouterr().err
    assert command_line(copied.arguments("export", "--quiet", "--set", f"export.path={thesis / 'chapter.tex'}")) == 2
    assert (thesis / "chapter.tex").read_text() == "years of work"

    elsewhere = thesis / "model"
    assert command_line(copied.arguments("run", "--quiet", "--set", f"export.path={elsewhere}")) == 0

    assert copied.report["export"]["path"] == str(elsewhere)
    assert (elsewhere / "model.safetensors").read_bytes() == (
        copied.folder / "export" / "model.safetensors"
    ).read_bytes()
    config = json.loads((elsewhere / "config.json").read_text())
    assert config["glorasearch"]["metrics"]["test_accuracy"] == copied.report["winner"]["test_accuracy"]


def test_trials_are_those_of_an_optuna_study(undisturbed: Bench) -> None:
    storage = TrialStorage(undisturbed.database_url)
    trials = storage.get_all_trials(storage.get_study_id_from_name("tiny"))
    best = min(trials, key=lambda trial: trial.value or torch.inf)

    assert best.number == undisturbed.report["winner"]["trial"]
    assert best.user_attrs["subnet"] == undisturbed.report["winner"]["digest"]
    assert best.user_attrs["parameters"] == undisturbed.report["winner"]["parameters"]
    assert best.user_attrs["accuracy"] == undisturbed.report["winner"]["search_accuracy"]


def test_what_the_stages_did_is_in_the_database(undisturbed: Bench) -> None:
    rows = {row.stage: row for row in RunStore(undisturbed.database_url).progress("tiny")}
    stages = ("train", "search", "search:chance", "refit", "baseline:lora", "test", "export", "report")
    assert tuple(rows) == stages
    assert {row.state for row in rows.values()} == {"finished"}
    steps = {stage: (row.title, row.done, row.total) for stage, row in rows.items() if row.total}
    assert steps["train"] == ("supernet", 80, 80)
    assert steps["search"][1:] == (48, 48)
    assert steps["refit"] == ("refit of the winner", 40, 40)
    assert steps["baseline:lora"] == ("baseline lora", 80, 80)
    assert "loss" in rows["train"].note
    assert "best" in rows["search"].note
    assert all(row.started <= row.updated for row in rows.values())
    (worker,) = WorkerStore(undisturbed.database_url).list("tiny")
    search = undisturbed.record.stages["search"]
    assert (worker.number, worker.ready, worker.tasks) == (0, True, search["evaluated"])
    assert 0 < worker.busy <= search["evaluation_seconds"] + 0.01
    assert 0 < worker.share <= 1
