"""Convolutions and norms from the search to a plain timm model: exports in a clean process, and whole runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.cli.main import run as command_line
from glorasearch.data import DataConfig, InputSpec, load_splits
from glorasearch.db import RunStore
from glorasearch.export import BackboneFacts, ExportReport, export_timm
from glorasearch.space import SearchSpace, Subnet, sample
from glorasearch.supernet import Supernet

Bench = Any
MakeBench = Callable[..., Bench]
RES: dict[str, Any] = {"layers": (1, 1, 1, 1), "channels": (8, 16, 16, 24), "in_chans": 1}
NEXT: dict[str, Any] = {"depths": (1, 1, 1, 1), "dims": (8, 16, 16, 24), "in_chans": 1}
VIT: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3, "in_chans": 1}
MODELS: dict[str, tuple[str, dict[str, Any], str]] = {
    "resnet": ("resnet18", RES, "resnet_glora"),
    "resnet, deep stem": ("resnet10t", {"channels": (8, 16, 16, 24), "in_chans": 1}, "resnet_glora"),
    "seresnext": ("seresnext50_32x4d", RES | {"cardinality": 4, "base_width": 32}, "resnet_glora"),
    "convnext": ("convnext_atto", NEXT, "convnext_glora"),
    "convnext, linear MLPs": ("convnext_tiny", NEXT, "convnext_glora"),
    "convnext, its norms": ("convnext_atto", NEXT, "ssf"),
    "a transformer's norms and patches": ("vit_tiny_patch16_224", VIT, "ssf"),
}
LOSS = ("train", "loss")
LOADER = """
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("glorasearch", "workers", "dashboards"):
            raise ImportError(name)

sys.meta_path.insert(0, Blocker())
import timm, torch
from safetensors.torch import load_file, save_file

for directory, images, outputs in json.loads(sys.argv[1]):
    model = timm.create_model("local-dir:" + directory, pretrained=True).eval()
    with torch.no_grad():
        save_file({"y": model(load_file(images)["x"])}, outputs)
assert "glorasearch" not in sys.modules
"""


@dataclass(frozen=True)
class Exported:
    report: ExportReport
    backbone: nn.Module
    merged: nn.Module
    images: Tensor
    outputs: Path
    """Of a process without glorasearch."""

    @property
    def gained(self) -> dict[str, Tensor]:
        """Layer → the bias that it has in the merged model only."""
        names = self.merged.state_dict().keys() - self.backbone.state_dict().keys()
        return {name.removesuffix(".bias"): self.merged.state_dict()[name] for name in names}


def searched(name: str) -> tuple[nn.Module, Supernet, Subnet, Tensor]:
    """A shipped space on a toy model with statistics of its own, its adapters trained by chance."""
    architecture, arguments, space = MODELS[name]
    torch.manual_seed(0)
    backbone = timm.create_model(architecture, num_classes=10, **arguments).eval()
    with torch.no_grad():
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
                module.running_mean.normal_(std=0.2)
                module.weight.uniform_(0.5, 1.5)
    supernet = Supernet(backbone, SearchSpace.load(space))
    state = {key: value + 0.1 * torch.randn(value.shape) for key, value in supernet.adapter_state().items()}
    supernet.load_adapter_state(state)
    return backbone, supernet, sample(supernet.space, np.random.default_rng(1)), torch.randn(4, 1, 32, 32)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    """Every toy model exported, and run by a process that cannot import glorasearch."""
    base = tmp_path_factory.mktemp("exports")
    done, jobs = {}, []
    for name in MODELS:
        backbone, supernet, subnet, images = searched(name)
        merged = supernet.merged(subnet)
        with supernet.activate(subnet):
            report = export_timm(
                merged,
                base / name,
                backbone=BackboneFacts.from_model(supernet.model),
                inputs=images,
                reference=supernet.eval(),
                subnet=subnet,
            )
        save_file({"x": images}, base / f"{name}.images")
        done[name] = Exported(report, backbone, merged, images, base / f"{name}.outputs")
        jobs.append([str(report.path), str(base / f"{name}.images"), str(base / f"{name}.outputs")])
    command = [sys.executable, "-I", "-c", LOADER, json.dumps(jobs)]
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    loaded = subprocess.run(command, capture_output=True, text=True, cwd=base, env=environment)
    assert loaded.returncode == 0, loaded.stderr
    assert "Unexpected keys" not in loaded.stderr
    return done


@pytest.mark.parametrize("name", MODELS)
def test_a_process_without_glorasearch_computes_the_same(exports: dict[str, Exported], name: str) -> None:
    """The same bits where no bias was moved; where one was, sums are rounded in another order."""
    one = exports[name]
    with torch.no_grad():
        expected, before = one.merged(one.images), one.backbone(one.images)
    found = load_file(one.outputs)["y"]
    if one.gained:
        assert (found - expected).abs().max() <= 2e-6 * expected.abs().max()
    else:
        assert torch.equal(found, expected)
    assert not torch.allclose(found, before, atol=1e-2)
    assert bool(one.gained) == ("res" in name)


@pytest.mark.parametrize("name", MODELS)
def test_the_exported_model_has_the_names_and_shapes_of_its_backbone(exports: dict[str, Exported], name: str) -> None:
    one = exports[name]
    state, plain = load_file(one.report.path / "model.safetensors"), one.backbone.state_dict()
    assert {key: value.shape for key, value in state.items()} == {key: value.shape for key, value in plain.items()}
    config = json.loads((one.report.path / "config.json").read_text())
    assert config["model_args"] == json.loads(json.dumps(MODELS[name][1] | {"num_classes": 10}))


def norm_behind(layer: str) -> str:
    """By timm's names: `conv2` has `bn2`, and a shortcut is a list of modules."""
    parent, _, last = layer.rpartition(".")
    return f"{parent}.{last.replace('conv', 'bn') if 'conv' in last else int(last) + 1}"


@pytest.mark.parametrize("name", [name for name in MODELS if "res" in name])
def test_what_batch_norms_hold(exports: dict[str, Exported], name: str) -> None:
    """The mean less the bias where a layer gained one; all else of all batch norms is the backbone's to the bit."""
    one = exports[name]
    state, plain = load_file(one.report.path / "model.safetensors"), one.backbone.state_dict()
    norms = {key for key, module in one.backbone.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert any("downsample" in layer for layer in one.gained)
    means = {layer: f"{norm_behind(layer)}.running_mean" for layer in one.gained}
    expected = {mean: plain[mean] - one.gained[layer] for layer, mean in means.items()}
    for key, value in state.items():
        if key.rpartition(".")[0] in norms:
            assert torch.equal(value, expected.get(key, plain[key])), key
    assert all(not torch.equal(value, plain[key]) for key, value in expected.items())


RUNS = {
    "resnet18": ("resnet_glora", "{layers = [1, 1, 1, 1], channels = [8, 16, 16, 24], in_chans = 1}"),
    "convnext_atto": ("convnext_glora", "{depths = [1, 1, 1, 1], dims = [8, 16, 16, 24], in_chans = 1}"),
    "vit_tiny_patch16_224": (
        "ssf",
        "{img_size = 32, patch_size = 8, embed_dim = 24, depth = 2, num_heads = 3, in_chans = 1}",
    ),
}


@pytest.mark.parametrize("backbone", RUNS)
def test_a_whole_run(backbone: str, make_bench: MakeBench) -> None:
    """Train, search, refit, test, export; the exported model scores what the report says."""
    space, arguments = RUNS[backbone]
    bench = make_bench(
        f"backbone.name={backbone}",
        f"backbone.args={arguments}",
        f"space.name={space}",
        "data.size=32",
        "data.test=100",
        "train.steps=40",
        "train.lr=1e-2",
        "search.trials=24",
        "search.population=8",
        "refit.steps=20",
        "report.baselines=[]",
        "report.random_subnets=0",
    )
    assert command_line(bench.arguments("run", "--quiet")) == 0
    report = bench.report
    losses = [row.value for row in RunStore(bench.database_url).metrics("tiny") if (row.stage, row.name) == LOSS]
    assert losses[-1] < losses[0]
    assert (report["space"], report["search"]["failed"]) == (space, 0)
    assert report["export"]["max_abs_diff"] < 1e-3

    args = tomllib.loads(f"args = {arguments}")["args"]
    model = build_backbone(BackboneConfig(name=backbone, pretrained=False, args=args), 10)
    config = DataConfig(source="digits", train=200, search=100, test=100, size=32)
    images, labels = load_splits(config, InputSpec.from_backbone(model)).test.batch(slice(0, 100), "cpu")
    exported = timm.create_model(f"local-dir:{bench.folder / 'export'}", pretrained=True).eval()
    with torch.no_grad():
        accuracy = float((exported(images).argmax(-1) == labels).float().mean())
    assert accuracy == pytest.approx(report["winner"]["test_accuracy"], abs=1e-7)


def test_offsets_for_which_there_is_no_place_are_refused_before_anything_starts(
    make_bench: MakeBench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a ResNet V2 the sums of the blocks read a convolution's output, not a batch norm alone."""
    space = tmp_path / "offsets.toml"
    space.write_text('[layers]\ninclude = ["*.conv2"]\ntypes = ["conv2d"]\n[choices]\nE = ["none", "vector"]\n')
    arguments = "{layers = [1, 1, 1, 1], channels = [8, 16, 16, 24], stem_chs = 8, in_chans = 1}"
    bench = make_bench("backbone.name=resnetv2_18", f"backbone.args={arguments}", f"space.name={space}", "data.size=32")
    assert command_line(bench.arguments("run", "--quiet")) == 2
    said = capsys.readouterr().err
    assert "stages.*.blocks.*.conv2 (4) gain no bias, since timm has no place for it" in said
    assert not bench.folder.exists()


def test_what_a_space_does_without_on_a_backbone_is_said_first(
    make_bench: MakeBench, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run is refused for its race, but has said by then that rank 16 is too large for the first stage."""
    arguments = (
        "{img_size = 32, patch_size = 4, window_size = 4, embed_dim = 8, depths = [1, 1, 1], num_heads = [1, 2, 4]}"
    )
    bench = make_bench(
        "backbone.name=swin_tiny_patch4_window7_224",
        f"backbone.args={arguments}",
        "space.name=wegeft",
        "data.size=32",
        "race.enabled=true",
        "race.folds=400",
    )
    assert command_line(bench.arguments("run")) == 2
    said = " ".join("".join(capsys.readouterr()).split())
    assert "space wegeft: choices.A: 'wegeft:16' does not fit 1 of 3 layers, which do without it" in said
    assert "group 'projections': its layers have 16, 32 inputs; those with equally many share" in said
    assert "race.folds is 400" in said
