"""Images with several labels in a race, by default settings of it: judged, taught, refitted, reported and exported."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from sklearn import metrics as sk
from support.labelled import LABELS, labels_of, write_labelled

from glorasearch.data.sources.digits import read_digits
from glorasearch.runs.results import Results

Bench = Any
Call = Callable[..., tuple[int, str, str]]
RACE = (
    "race.enabled=true", 'race.methods=["lora", "ssf"]', "race.rates=[1e-3, 1e-2]", "race.finalists=1", "race.named=0",
    "race.steps=40", "race.folds=3", "race.rungs=[1]", "race.keep=2", "refit.teachers=2", "refit.orders=1",
    "refit.teacher_steps=60", "refit.mixed=60", "refit.steps=160", "report.baselines=[]", "report.random_subnets=0",
    "report.steps=20", "search.trials=16", "search.parents=2", "search.eval_batch_size=25", "train.steps=20",
)  # fmt: skip


@pytest.fixture(scope="module")
def raced(make_bench: Callable[..., Bench], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    path = write_labelled(tmp_path_factory.mktemp("labelled"), 400)
    sizes = ("data.train=200", "data.search=100", "data.test=100")
    bench = make_bench(f"data.source=csv:{path}", "data.task=multilabel", *sizes, *RACE)
    bench.finish()
    return bench


def test_candidates_are_judged_by_whole_images_and_by_labels(raced: Bench) -> None:
    race = Results(raced.record.stages).race
    assert race is not None
    best = race.winner
    assert [one.last.folds for one in race.candidates] == [3, 3, 1, 1, 1, 1]
    assert best.last.images == 300
    assert best.last.accuracy > 0.2, "three labels at random are right for an eighth of the images"
    assert best.last.tempered is not None
    assert best.last.tempered < np.log(2), "better than chance of a label, at a temperature of its own"


def test_the_student_learnt_what_the_teachers_say_of_each_label(raced: Bench) -> None:
    refit = Results(raced.record.stages).refit
    assert refit is not None
    assert refit.teachers is not None
    assert (refit.teachers.count, len(refit.teachers.names)) == (2, 2)
    assert refit.teachers.own_accuracy is not None
    assert not refit.teachers.discarded
    assert refit.steps == 160


def test_the_report_and_the_export_are_of_the_student(raced: Bench, call: Call) -> None:
    report = raced.report
    rows = list(csv.DictReader((raced.folder / "predictions.csv").open()))
    shares = np.array([[float(row[f"probability of {name}"]) for name in LABELS] for row in rows])
    digits = read_digits().train
    targets = np.array([labels_of(int(digits.labels[int(Path(row["file"]).stem)])) for row in rows])
    assert report["winner"]["test_accuracy"] == sk.accuracy_score(targets, shares > 0.5)
    assert report["metrics"]["auc"]["value"] == pytest.approx(sk.roc_auc_score(targets, shares), abs=1e-5)
    assert report["metrics"]["auc"]["value"] > 0.7
    assert any("counts as right if all of its labels are" in line for line in report["statements"])
    assert any("won the race with" in line for line in report["statements"])
    model = timm.create_model(f"local-dir:{raced.folder / 'export'}", pretrained=True)
    assert (model.num_classes, model.pretrained_cfg["label_names"]) == (3, list(LABELS))
    code, out, err = call("predict", "tiny", rows[0]["file"], "--json", *raced.place)
    assert code == 0, err
    assert "probability" in out
    code, out, err = call("compare", "tiny", *raced.place)
    assert (code, "out of fold, %" in out) == (0, True), err
    assert "tiny: search, out of fold and test are subset accuracy (all labels of an image right)" in out


def test_a_race_that_goes_on_trains_nothing_again(raced: Bench) -> None:
    before = raced.count("select count(*) from glorasearch_race_members")
    raced.finish()
    assert raced.count("select count(*) from glorasearch_race_members") == before == 6 + 2 * 2
    assert torch.isfinite(torch.tensor(raced.report["race"]["candidates"][0]["scores"][0]["tempered"]))
