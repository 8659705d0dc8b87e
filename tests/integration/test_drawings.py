"""A folder of photograph-like images through run, report, prediction and export; timm's own evaluation agrees."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from support.clean import CARD_PROGRAM, without_glorasearch
from support.drawings import CLASSES, ODD, PLAIN, write_drawings
from support.tiny_backbone import write_tiny_backbone

from glorasearch.cli.main import run as command_line
from glorasearch.runs.results import Report

Call = Callable[..., tuple[int, str, str]]
RUN_FILE = """
name = "drawings"
device = "cpu"
threads = 1
[data]
source = "folder:{images}"
[space]
name = "lean"
[train]
steps = 200
lr = 1e-2
batch_size = 24
[search]
trials = 8
population = 4
parents = 2
[race]
enabled = false
[refit]
steps = 200
folds = 3
[backbone]
name = "local-dir:{backbone}"
"""
EVALUATION = """
import json, sys
import torch
from timm.data import create_dataset, create_loader, resolve_data_config
from timm.models import create_model
from timm.utils import AverageMeter, accuracy

export, images = sys.argv[1:]
model = create_model(f"local-dir:{export}", pretrained=True).eval()
config = resolve_data_config({}, model=model, use_test_size=True)
dataset = create_dataset(
    root=images, name="", split="test", input_img_mode="RGB" if config["input_size"][0] == 3 else "L"
)
loader = create_loader(
    dataset, input_size=config["input_size"], batch_size=16, use_prefetcher=False,
    interpolation=config["interpolation"], mean=config["mean"], std=config["std"], num_workers=0,
    crop_pct=config["crop_pct"], crop_mode=config["crop_mode"], device=torch.device("cpu"),
)
losses, top1, top5, predicted = AverageMeter(), AverageMeter(), AverageMeter(), []
criterion = torch.nn.CrossEntropyLoss()
with torch.inference_mode():
    for input, target in loader:
        output = model(input)
        one, five = accuracy(output, target, topk=(1, 5))
        losses.update(criterion(output, target).item(), input.size(0))
        top1.update(one.item(), input.size(0))
        top5.update(five.item(), input.size(0))
        predicted += output.argmax(-1).tolist()
files = dataset.filenames(absolute=True)
print(json.dumps({"top1": top1.avg, "top5": top5.avg, "loss": losses.avg, "predicted": dict(zip(files, predicted)),
                  "images": len(dataset), "classes": list(dataset.reader.class_to_idx)}))
"""
"""What timm's `validate.py` does with `--model local-dir:EXPORT --data-dir IMAGES --split test`."""


@dataclass(frozen=True)
class Drawings:
    """A finished run of them."""

    images: Path
    workspace: Path

    @property
    def folder(self) -> Path:
        return self.workspace / "runs" / "drawings"

    @property
    def export(self) -> Path:
        return self.folder / "export"

    @property
    def report(self) -> Report:
        return Report.from_json(json.loads((self.folder / "report.json").read_text()))

    @property
    def predictions(self) -> list[dict[str, str]]:
        with (self.folder / "predictions.csv").open(newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Drawings:
    place = tmp_path_factory.mktemp("drawings")
    for number, (split, each) in enumerate({"train": 14, "val": 10, "test": 20}.items()):
        write_drawings(place / "images" / split, each, number, PLAIN if split == "test" else PLAIN + ODD)
    write_drawings(place / "odd", 4, 3, ODD)
    backbone = write_tiny_backbone(place / "backbone")
    (place / "run.toml").write_text(RUN_FILE.format(images=place / "images", backbone=backbone))
    assert command_line(["run", str(place / "run.toml"), "--workspace", str(place / "runs"), "--quiet"]) == 0
    return Drawings(place / "images", place / "runs")


def test_the_report_knows_all_kinds_of_files(drawings: Drawings, call: Call) -> None:
    report = drawings.report
    assert report.splits.class_names == CLASSES
    assert [report.splits.train.images, report.splits.search.images, report.splits.test.images] == [84, 60, 120]
    assert report.splits.reading is not None
    assert report.splits.reading["turned"] == 18
    code, out, _ = call("show", "drawings", "--workspace", str(drawings.workspace))
    assert code == 0
    assert "18 images are turned upright as their EXIF says" in out
    assert 1 / 6 < report.winner.test_accuracy < 1


def test_timm_evaluates_the_export_to_the_same_images(drawings: Drawings) -> None:
    """Its data set, loader and metrics as in `validate.py`, in a process without glorasearch."""
    found = json.loads(without_glorasearch(EVALUATION, str(drawings.export), str(drawings.images)))
    report, rows = drawings.report, drawings.predictions
    metrics = {name: one.value for name, one in report.metrics.items()}
    assert (found["images"], tuple(found["classes"])) == (len(rows), report.splits.class_names)
    said = {row["file"]: CLASSES.index(row["predicted"]) for row in rows}
    assert found["predicted"] == said
    assert round(found["top1"] * len(rows) / 100) == sum(row["label"] == row["predicted"] for row in rows)
    assert found["top1"] / 100 == pytest.approx(report.winner.test_accuracy, abs=1e-9)
    assert found["top5"] / 100 == pytest.approx(metrics["top5"], abs=1e-6)
    assert found["loss"] == pytest.approx(metrics["log_loss"], rel=1e-4)


def test_probabilities_are_those_whose_calibration_the_report_gives(drawings: Drawings) -> None:
    """At the temperature that fits the refit on images that its fold did not train on."""
    report, rows = drawings.report, drawings.predictions
    metrics = {name: one.value for name, one in report.metrics.items()}
    judged, temperature = report.refit.judged, report.temperature
    assert judged is not None
    assert temperature is not None
    assert (temperature.value, temperature.images) == (judged.temperature, "out of fold")
    labels = np.array([CLASSES.index(row["label"]) for row in rows])
    shares = np.array([[float(row[f"probability of {name}"]) for name in CLASSES] for row in rows])
    plain = shares**temperature.value  # but for a factor
    plain /= plain.sum(1, keepdims=True)
    for name, found in {"log_loss_tempered": shares, "log_loss": plain}.items():
        assert -np.log(found[np.arange(len(rows)), labels]).mean() == pytest.approx(metrics[name], rel=1e-4)
    for name, found in {"calibration_error_tempered": shares, "calibration_error": plain}.items():
        accuracies, confidences = calibration_curve(found.argmax(1) == labels, found.max(1), n_bins=15)
        weights = np.bincount(np.ceil(found.max(1) * 15).astype(int)) / len(rows)
        expected = (weights[weights > 0] * np.abs(accuracies - confidences)).sum()
        assert metrics[name] == pytest.approx(expected, abs=1e-4)
    assert metrics["log_loss"] != pytest.approx(metrics["log_loss_tempered"], rel=1e-2)
    before, after = metrics["calibration_error"], metrics["calibration_error_tempered"]
    said = f"expected calibration error on the test split is {after:.3f}; as they are, {before:.3f}."
    assert said in (drawings.export / "README.md").read_text()


def test_predict_and_the_card_say_the_same_of_every_kind(drawings: Drawings, call: Call) -> None:
    odd = drawings.images.parent / "odd"
    code, out, err = call("predict", str(drawings.export), str(odd), str(drawings.images / "test"), "--json", "--quiet")
    found = json.loads(out)
    assert code == 0
    report = drawings.report
    assert report.temperature is not None
    assert found["temperature"] == report.temperature.value
    for said in ("turned upright (12)", "16 bits to 8 bits, 0 black and 65535 white, L to RGB (12)", "P to RGB (24)"):
        assert said in err
    shares = {one["file"]: (one["label"], one["probability"]) for one in found["predictions"]}
    for row in drawings.predictions:
        label, probability = shares[row["file"]]
        assert label == row["predicted"]
        assert probability == pytest.approx(float(row[f"probability of {label}"]), abs=1e-4)
    files = [str(odd / CLASSES[0] / f"{number} {kind}") for number, kind in enumerate(ODD)]
    files += [row["file"] for row in drawings.predictions[: len(PLAIN)]]
    lines = without_glorasearch(CARD_PROGRAM, json.dumps([[str(drawings.export), files]])).splitlines()
    for file, (label, share) in zip(files, (line.rsplit(" ", 1) for line in lines), strict=True):
        assert (label, pytest.approx(float(share), abs=1e-4)) == shares[file]
