"""Runs that predict numbers, or several labels, in every format: each answers what the run's own export answers."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import timm
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from support.labelled import LABELS
from support.numbers import TARGETS

from glorasearch.cli.main import run as command_line
from glorasearch.data.given_images import given_images
from glorasearch.export import Adapter, ExportedModel
from glorasearch.serving import AdapterServer

Bench = Any
Call = Callable[..., tuple[int, str, str]]
Outputs = npt.NDArray[np.float64]
FORMATS = ("adapter", "peft", "onnx", "torch-export", "safetensors")


@pytest.fixture(scope="module")
def exported(of_task: Bench) -> Bench:
    """A finished run with all its formats."""
    flags = [text for name in FORMATS for text in ("--format", name)]
    assert command_line(["export", "tiny", *flags, "--quiet", *of_task.place]) == 0
    return of_task


@pytest.fixture
def images(exported: Bench) -> tuple[list[str], torch.Tensor, Outputs]:
    """Files, their pixels as the models take them, and the outputs of the export as timm loads it."""
    rows = list(csv.DictReader((exported.folder / "predictions.csv").open()))[:12]
    files = [row["file"] for row in rows]
    model = ExportedModel.load(exported.folder / "export")
    seen: list[torch.Tensor] = []
    with model.model.register_forward_pre_hook(lambda _, given: seen.append(given[0])):
        list(model.predict(given_images(files)))
    with torch.inference_mode():
        outputs = timm.create_model(f"local-dir:{exported.folder / 'export'}", pretrained=True).eval()(seen[0])
    return files, seen[0].clone(), outputs.double().numpy()


def task_of(bench: Bench) -> str:
    return str(bench.report["splits"]["task"])


def same(found: Any, wanted: Outputs) -> None:
    """To 1e-5 of what each output varies by."""
    np.testing.assert_array_less(np.abs(np.asarray(found) - wanted).max(0), 1e-5 * (np.ptp(wanted, axis=0) + 1e-3))


def test_every_format_gives_the_same_numbers(exported: Bench, images: Any) -> None:
    _, pixels, wanted = images
    folder = exported.folder
    with torch.inference_mode():
        same(Adapter.load(folder / "export-adapter").model()(pixels), wanted)
        same(torch.export.load(folder / "export-torch-export" / "model.pt2").module()(pixels), wanted)
    session = onnxruntime.InferenceSession(folder / "export-onnx" / "model.onnx")
    same(session.run(None, {"images": pixels.numpy()})[0], wanted)
    if task_of(exported) == "regress":
        rows = list(csv.DictReader((folder / "predictions.csv").open()))[: len(pixels)]
        said = np.array([[float(row[f"predicted {name}"]) for name in TARGETS] for row in rows])
        assert said == pytest.approx(wanted, rel=1e-5), "which has six digits"


def test_many_adapters_are_served(exported: Bench, images: Any) -> None:
    files, pixels, wanted = images
    adapter = Adapter.load(exported.folder / "export-adapter")
    server = AdapterServer(adapter._build())
    digest = server.add(adapter)
    same(server(digest, pixels), wanted)
    same(torch.stack(server.mixed([digest] * len(pixels), pixels, "unmerged")), wanted)
    said = list(server.predict(digest, files))
    if task_of(exported) == "regress":
        same([one.numbers for one in said], wanted)
    else:
        shares = [dict(zip(one.labels, one.probabilities, strict=True)) for one in said]
        same([[each[name] for name in LABELS] for each in shares],
             1 / (1 + np.exp(-wanted / adapter.temperature)))  # fmt: skip


def test_every_folder_can_be_verified(exported: Bench, call: Call) -> None:
    for name in ("export", *(f"export-{format}" for format in FORMATS)):
        code, out, _ = call("verify", str(exported.folder / name), *exported.place)
        assert (code, "outputs on" in out) == (0, True), name
        card = ModelCard.load(exported.folder / name / "README.md")
        report = exported.report
        rows = [f"| {one['name']} | {one['r2']:.4g} | {one['mae']:.4g} | " for one in report["by_target"]]
        rows += [f"| {one['name']} | " for one in report["by_class"]]
        assert all(row in card.content for row in rows), name
        assert ("## Each target" in card.content) == bool(report["by_target"])
        if task_of(exported) == "regress":
            metrics = {one.metric_type for one in card.data.eval_results or ()}
            assert ("image-classification" in card.content, metrics >= {"mae", "rmse"}) == (False, True), name
            assert "in the targets' own units" in " ".join(card.content.split())


def test_a_small_target_that_is_wrong_is_found(exported: Bench, tmp_path: Path, call: Call) -> None:
    """Prices of thousands say nothing of what ink, in hundredths, may differ by."""
    if task_of(exported) != "regress":
        pytest.skip("labels have one scale")
    folder = tmp_path / "export"
    shutil.copytree(exported.folder / "export", folder)
    weights = load_file(folder / "model.safetensors")
    weights["head.bias"][TARGETS.index("ink")] += 0.02
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    code, out, _ = call("verify", str(folder), "--json", *exported.place)
    found = {one["place"]: one["damage"] for one in json.loads(out)["parts"]}
    assert (code, "outputs differ by" in str(found["outputs on 60 images of the search split"])) == (1, True), found
