"""The tables beside a run's report: what it says of each test image, and the files of its splits."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as oracle
from support.runs import Bench

import glorasearch


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_test_image_is_there_once(undisturbed: Bench) -> None:
    rows, report = table(undisturbed.folder / "predictions.csv"), undisturbed.report
    assert len(rows) == 200
    assert len({row["file"] for row in rows}) == 200
    assert rows[0]["file"].startswith("digits, image ")
    assert sum(row["label"] == row["predicted"] for row in rows) == round(200 * report["winner"]["test_accuracy"])
    shares = [[float(row[f"probability of {name}"]) for name in "0123456789"] for row in rows]
    assert [sum(row) for row in shares] == pytest.approx([1] * 200, abs=1e-5)
    assert ["0123456789"[int(np.argmax(row))] for row in shares] == [row["predicted"] for row in rows]
    labels = ["0123456789".index(row["label"]) for row in rows]
    expected = report["metrics"]["log_loss"]["value"]
    assert oracle.log_loss(labels, shares, labels=range(10)) == pytest.approx(expected, rel=1e-4)
    for name, sha256 in report["files"].items():
        assert hashlib.sha256((undisturbed.folder / name).read_bytes()).hexdigest() == sha256
    assert list(report["files"]) == ["predictions.csv", "splits.csv"]


def test_the_splits_are_lists_of_all_files(undisturbed: Bench) -> None:
    rows = table(undisturbed.folder / "splits.csv")
    assert [row["split"] for row in rows] == ["train"] * 200 + ["search"] * 100 + ["test"] * 200
    assert len({row["file"] for row in rows}) == 500
    tested = table(undisturbed.folder / "predictions.csv")
    assert [(row["file"], row["label"]) for row in rows[300:]] == [(row["file"], row["label"]) for row in tested]


def test_the_export_says_of_the_files_what_the_table_says(tmp_path: Path) -> None:
    """From a folder of files: the files of the table, given to the exported model, have its probabilities."""
    random = np.random.default_rng(0)
    for number, name in enumerate(("dark, very", "light")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for image in range(20):
            pixels = random.integers(100 * number, 100 * number + 120, (9, 12, 4)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{image}.png")
    config = {
        "name": "shades",
        "device": "cpu",
        "threads": 1,
        "backbone": {"name": "quickstart"},
        "data": {"source": f"folder:{tmp_path}/images", "train": 16, "search": 8, "test": 12},
        "space": {"name": "lean"},
        "train": {"steps": 4, "lr": 1e-2, "batch_size": 8},
        "search": {"trials": 4, "population": 4, "parents": 2},
        "race": {"enabled": False},
        "refit": {"steps": 4},
    }
    report = glorasearch.Run(config, tmp_path / "runs").execute()
    folder = tmp_path / "runs" / "runs" / "shades"
    rows = table(folder / "predictions.csv")
    found = glorasearch.predict_images(report.export.path, [row["file"] for row in rows], top=2)
    assert len(found) == 12
    for row, one in zip(rows, found, strict=True):
        assert row["label"] == Path(row["file"]).parent.name
        assert row["predicted"] == one.labels[0]
        expected = [float(row[f"probability of {label}"]) for label in one.labels]
        assert one.probabilities == pytest.approx(expected, abs=1e-4)
        assert one.conversion == "RGBA to L"
    files = [Path(row["file"]) for row in table(folder / "splits.csv")]
    assert len(set(files)) == 36
    assert all(file.is_file() for file in files)
