"""The winner of a finished run in other formats: written beside the export, vouched for, made again."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.runs import Bench

from glorasearch.db import RunStore
from glorasearch.export import Adapter

Call = Callable[..., tuple[int, str, str]]


def test_formats_beside_the_export(copied: Bench, call: Call) -> None:
    place = ("--workspace", str(copied.workspace))
    code, out, err = call("export", "tiny", "--format", "adapter", "--format", "timm", "--json", "--quiet", *place)
    assert code == 0, err
    found = {one["format"]: one for one in json.loads(out)["exports"]}
    assert found.keys() == {"timm", "adapter"}
    folder = copied.workspace / "runs/tiny/export-adapter"
    assert found["adapter"]["path"] == str(folder)
    adapter = Adapter.load(folder)
    wanted = load_file(copied.workspace / "runs/tiny/export/model.safetensors")
    for name, value in adapter.model().state_dict().items():  # the backbone of that name has no pretrained weights
        torch.testing.assert_close(value, wanted[name], rtol=0, atol=1e-6)
    assert adapter.facts["provenance"]["run"] == "tiny"
    assert call("verify", "tiny", *place)[0] == 0

    weights = folder / "adapter.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    code, out, _ = call("verify", "tiny", *place)
    assert code == 1
    assert "glorasearch export tiny --format adapter" in " ".join(out.split())
    assert call("export", "tiny", "--format", "adapter", "--quiet", *place)[0] == 0
    assert weights.read_bytes() == content
    assert call("verify", "tiny", *place)[0] == 0
    assert call("run", "tiny", "--quiet", *place)[0] == 0  # nothing is done again
    code, out, _ = call("runs", *place)
    assert "finished" in out.splitlines()[-1]
    assert "format" not in out  # which is no stage
    code, out, _ = call("show", "tiny", *place)
    assert "\n  export to adapter" in out
    assert "format:adapter" not in out
    record = RunStore(copied.database_url).get("tiny")
    assert record is not None
    assert record.stages["format:adapter"]["seconds"] > 0
    code, _, err = call("predict", str(folder), "x.png", *place)
    assert (code, "is an export as adapter; images are classified with timm's" in err) == (2, True)


def test_merging_costs_no_time(undisturbed: Bench, call: Call) -> None:
    place = ("--workspace", str(undisturbed.workspace))
    report = json.loads((undisturbed.workspace / "runs/tiny/report.json").read_text())
    found = report["latency"]
    assert 0.5 < found["ratio"] < 2  # whatever else the machine does
    assert found["pairs"] >= 5
    assert (found["images"], found["device"], found["threads"]) == (1, "cpu", 1)
    code, out, _ = call("run", "tiny", "--quiet", *place)
    assert code == 0
    said = f"latency of an image on cpu, 1 thread: merged {found['merged']:.3g} ms, the original backbone "
    assert said in " ".join(out.split())


def test_a_folder_is_checked_against_its_run_wherever_it_lies(copied: Bench, call: Call, tmp_path: Path) -> None:
    place = ("--workspace", str(copied.workspace))
    formats = [word for name in ("onnx", "safetensors") for word in ("--format", name)]
    code, _, err = call("export", "tiny", *formats, "--quiet", *place)
    assert code == 0, err
    for name in ("export", "export-onnx", "export-safetensors"):
        moved = shutil.copytree(copied.workspace / "runs/tiny" / name, tmp_path / name)
        code, out, _ = call("verify", str(moved), "--json", *place)
        assert (code, json.loads(out)["run"]) == (0, "tiny")
        assert "outputs on 64 images of the search split" in [part["place"] for part in json.loads(out)["parts"]]

    weights = tmp_path / "export-safetensors" / "model.safetensors"
    save_file({name: value * 1.5 for name, value in load_file(weights).items()}, weights)
    manifest = weights.with_name("glorasearch.json")
    content = json.loads(manifest.read_text())
    content["files"][weights.name] = hashlib.sha256(weights.read_bytes()).hexdigest()  # so that it is consistent
    manifest.write_text(json.dumps(content))
    code, out, _ = call("verify", str(weights.parent), "--json", *place)
    damages = {Path(part["place"]).name: part["damage"] for part in json.loads(out)["parts"] if part["damage"]}
    assert (code, sorted(damages)) == (1, ["glorasearch.json", "outputs on 64 images of the search split"])
    content["provenance"]["run"] = "other"
    manifest.write_text(json.dumps(content))
    code, _, err = call("verify", str(weights.parent), *place)
    assert code == 2
    assert "other" in err
    assert call("verify", str(weights.parent), "--run", "tiny", *place)[0] == 1


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ("{", "is no export: glorasearch.json"),
        ({"format": "onnx", "files": [1]}, "does not list the files"),
        ({"format": "onnx", "files": {"../tiny/report.json": "0"}}, "does not list the files"),
        ({"format": "tflite", "files": {}}, "is an export of the format tflite; this glorasearch knows timm, adapter"),
        ({"format": "peft", "files": {}, "lossy": 7}, "does not say what it is in the form of an export"),
        ({"format": "onnx", "files": {}, "provenance": {"run": ["tiny"]}}, "does not say what it is in the form of"),
    ],
)
def test_a_manifest_from_elsewhere_is_refused_in_words(
    undisturbed: Bench, call: Call, tmp_path: Path, manifest: Any, said: str
) -> None:
    whole = manifest if manifest == "{" else json.dumps({"format_version": 1, "provenance": {"run": "tiny"}} | manifest)
    (tmp_path / "glorasearch.json").write_text(whole)
    code, _, err = call("verify", str(tmp_path), "--workspace", str(undisturbed.workspace))
    assert (code, said in err) == (2, True), err


def test_what_else_lies_in_an_export_is_named_and_everybody_may_read_it(copied: Bench, call: Call) -> None:
    place = ("--workspace", str(copied.workspace))
    folder = copied.workspace / "runs/tiny/export-peft"
    code, _, err = call("export", "tiny", "--format", "peft", "--lossy-rank", "2", "--quiet", *place)
    assert code == 0, err
    modes = {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()}
    assert set(modes.values()) == {folder.stat().st_mode & 0o644}, modes
    (folder / "added.py").touch()
    code, _, err = call("verify", str(folder), *place)
    assert (code, "not of this export, and not checked: added.py" in err) == (0, True), err


def test_a_search_that_found_more_than_lora_has_no_peft_adapter(copied: Bench, call: Call) -> None:
    place = ("--workspace", str(copied.workspace))
    code, _, err = call("export", "tiny", "--format", "safetensors", "--format", "peft", "--quiet", *place)
    assert code == 2
    assert "the winner is not LoRA with biases: blocks." in err
    assert not list(copied.workspace.glob("runs/tiny/export-*"))
    code, out, err = call("export", "tiny", "--format", "peft", "--lossy-rank", "3", "--quiet", *place)
    assert code == 0, err
    assert "peft: rank 3 approximates" in out
    assert call("verify", str(copied.workspace / "runs/tiny/export-peft"), *place)[0] == 0


def test_what_is_no_export_is_not_replaced(copied: Bench, call: Call) -> None:
    folder = copied.workspace / "runs/tiny/export-adapter"
    folder.mkdir()
    (folder / "mine").write_text("mine")
    code, _, err = call("export", "tiny", "--format", "adapter", "--quiet", "--workspace", str(copied.workspace))
    assert (code, (folder / "mine").read_text()) == (2, "mine")
    assert "exists and is no export of glorasearch" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--lossy-rank", "4"], "--lossy-rank is of --format peft"),
        (["--format", "tflite"], "'tflite' is not one of"),
    ],
)
def test_refusals(copied: Bench, call: Call, arguments: list[str], said: str) -> None:
    code, _, err = call("export", "tiny", *arguments, "--workspace", str(copied.workspace))
    assert code == 2
    assert said in err
    assert not list(Path(copied.workspace).glob("runs/tiny/export-*"))
