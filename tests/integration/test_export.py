"""Exports of merged supernets, loaded in a process that cannot import glorasearch; killed exports."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from support.exports import MODELS, export, searched
from support.processes import run_script
from torch import nn

from glorasearch.errors import ExportError
from glorasearch.export import BackboneFacts, ExportReport, check_exportable
from glorasearch.space import Subnet
from glorasearch.weights import tensor_digest
from glorasearch.weights.atomic import temporary_beside

LOADER = """
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "glorasearch":
            raise ImportError("glorasearch is not to be had in this process")

sys.meta_path.insert(0, Blocker())
import timm, torch
from safetensors.torch import load_file, save_file

for directory, images, outputs in json.loads(sys.argv[1]):
    model = timm.create_model("local-dir:" + directory, pretrained=True).eval()
    with torch.no_grad():
        found = model(load_file(images)["x"])
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    save_file({"y": found, "mean": torch.tensor(model.pretrained_cfg["mean"])}, outputs)
assert not any(name.partition(".")[0] == "glorasearch" for name in sys.modules)
"""


@pytest.fixture(scope="module")
def exports(tmp_path_factory) -> dict[str, tuple[ExportReport, nn.Module, torch.Tensor, Path]]:
    """Every toy model, searched, merged, exported, and run by a process without glorasearch."""
    base = tmp_path_factory.mktemp("exports")
    done, jobs = {}, []
    for name in MODELS:
        supernet, subnet, images = searched(name)
        model = supernet.merged(subnet)
        report = export(supernet, subnet, images, base / name, model=model)
        save_file({"x": images}, base / f"{name}.images")
        jobs.append([str(report.path), str(base / f"{name}.images"), str(base / f"{name}.outputs")])
        done[name] = (report, model, images, base / f"{name}.outputs")
    command = [sys.executable, "-I", "-c", LOADER, json.dumps(jobs)]
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    loaded = subprocess.run(command, capture_output=True, text=True, cwd=base, env=environment, check=False)
    assert loaded.returncode == 0, loaded.stderr
    assert "Unexpected keys" not in loaded.stderr
    return done


@pytest.mark.parametrize("name", MODELS)
def test_a_process_without_glorasearch_computes_the_same_bits(exports, name):
    report, model, images, outputs = exports[name]
    with torch.no_grad():
        expected = model(images)
    assert expected.shape == (5, 10)
    assert torch.equal(load_file(outputs)["y"], expected)
    assert 0 < report.max_abs_diff < 1e-4 * float(expected.abs().max())


@pytest.mark.parametrize("name", MODELS)
def test_what_is_in_the_directory(exports, name):
    report, model, images, _ = exports[name]
    assert sorted(path.name for path in report.path.iterdir()) == sorted(report.files)
    assert report.bytes == sum(path.stat().st_size for path in report.path.iterdir())
    config = json.loads((report.path / "config.json").read_text())
    own = config["glorasearch"]
    assert Subnet.from_dict(own["subnet"]).digest == own["subnet_digest"]
    assert own["weights_digest"] == report.digest
    assert own["metrics"]["search_accuracy"] == 0.5
    assert own["provenance"] == {"run": "toy", "seed": 0}
    assert config["pretrained_cfg"]["input_size"] == list(images.shape[1:])
    assert not {"url", "file", "hf_hub_id"} & config["pretrained_cfg"].keys()
    if "bias_gained" not in name:
        assert tensor_digest(model.state_dict()) == report.digest
    card = (report.path / "README.md").read_text()
    assert card.startswith("---\n")
    assert "| search_accuracy | 0.5 |" in card


def test_the_config_has_the_keys_that_timm_itself_writes(exports, tmp_path):
    report, *_ = exports["vit"]
    loaded = timm.create_model(f"local-dir:{report.path}", pretrained=True)
    timm.models.save_for_hf(loaded, str(tmp_path), safe_serialization=True)
    theirs = json.loads((tmp_path / "config.json").read_text())
    ours = json.loads((report.path / "config.json").read_text())
    for key in ("architecture", "num_classes", "num_features"):
        assert ours[key] == theirs[key]
    assert theirs["model_args"] == theirs["model_args"] | ours["model_args"] | {"img_size": [16, 16]}
    assert ours["pretrained_cfg"] == {key: theirs["pretrained_cfg"].get(key) for key in ours["pretrained_cfg"]} | {
        "num_classes": 10
    }


def test_gained_biases_are_timm_arguments(exports):
    config = json.loads((exports["vit_bias_gained"][0].path / "config.json").read_text())
    assert config["model_args"]["qkv_bias"] is True
    supernet, _, _ = searched("vit_bias_gained")
    assert supernet.gains_bias()
    check_exportable("vit_tiny_patch16_224", MODELS["vit_bias_gained"][1], supernet.gains_bias())


def test_exporting_again(tmp_path):
    searched_model = searched("vit")
    path = tmp_path / "deep" / "export"
    first = export(*searched_model, path, class_names=[f"class {n}" for n in range(10)])
    before = {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in path.iterdir()}
    assert export(*searched_model, path, class_names=[f"class {n}" for n in range(10)]) == first
    assert {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in path.iterdir()} == before
    with pytest.raises(ExportError, match="exists and holds something else"):
        export(*searched_model, path, metrics={"search_accuracy": 0.75})
    assert export(*searched_model, path, metrics={"search_accuracy": 0.75}, replace=True).digest == first.digest
    assert json.loads((path / "config.json").read_text())["glorasearch"]["metrics"] == {"search_accuracy": 0.75}
    assert os.listdir(path.parent) == ["export"]


def test_the_data_of_the_user_stand_in_the_configuration(tmp_path):
    supernet, subnet, images = searched("vit")
    facts = BackboneFacts.from_model(supernet.model, mean=(0.25,), std=(0.125,), interpolation="bilinear")
    names = [f"class {n}" for n in range(10)]
    report = export(supernet, subnet, images, tmp_path / "x", backbone=facts, class_names=names)
    model = timm.create_model(f"local-dir:{report.path}", pretrained=True)
    assert list(model.pretrained_cfg["label_names"]) == names
    config = timm.data.resolve_model_data_config(model)
    assert (tuple(config["mean"]), tuple(config["std"]), config["interpolation"]) == ((0.25,), (0.125,), "bilinear")
    assert tuple(config["input_size"]) == (1, 16, 16)


def test_killed_exports_leave_nothing_or_the_whole(tmp_path):
    moments = json.loads(run_script("killed_writer", "export", str(tmp_path)))
    assert sum(moment["killed"] for moment in moments) >= 5
    whole, states = 0, set()
    for moment in moments:
        directory = Path(moment["directory"])
        path = directory / "export"
        if path.exists():
            whole += 1
            files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in path.iterdir()}
            states.add(json.dumps(files, sort_keys=True))
            assert len(files) == 3
            timm.create_model(f"local-dir:{path}", pretrained=True)
    assert 1 <= whole < len(moments)
    assert len(states) == 1, "a whole export is always the same"


def test_an_export_after_a_killed_one_cleans_up(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    mine = temporary_beside(tmp_path / "x")
    left = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{int(dead.stdout)}-"))
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    mine.mkdir()
    export(*searched("vit"), tmp_path / "x")
    assert sorted(os.listdir(tmp_path)) == sorted([mine.name, "x"]), "what a living process writes is left alone"
