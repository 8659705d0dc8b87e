"""What is published, the export and the manifests of weights, names no path of the machine that made it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.runs import Bench

from glorasearch.weights import WeightStore


def put_in(folder: Path, backbone: Path) -> list[str]:
    """Backbone, data and space in a folder, and the overrides that name them there."""
    folder.mkdir()
    shutil.copytree(backbone, folder / "vit")
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 255, (120, 28, 28), np.uint8), np.arange(120) % 10
    np.savez(folder / "data.npz", x=images, y=labels)
    shutil.copy(Path(__file__).parents[2] / "search_spaces" / "lora.toml", folder / "mine.toml")
    values = {
        "backbone.name": f"local-dir:{folder}/vit",
        "backbone.args": "{}",
        "data.source": f"npz:{folder}/data.npz",
        "data.train": "60",
        "data.search": "20",
        "data.test": "40",
        "space.name": str(folder / "mine.toml"),
        "report.baselines": f'["{folder / "mine.toml"}", "ssf"]',
        "train.steps": "2",
        "refit.steps": "2",
    }
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


def test_no_path_is_published_and_none_enters_a_digest(
    make_bench: Callable[..., Bench], undisturbed: Bench, tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    weights = []
    for name in ("one", "two"):
        overrides = put_in(tmp_path / name, undisturbed.folder / "export")
        bench = make_bench(workspace=tmp_path / f"workspace-{name}")
        code, _, said = call(*bench.arguments("run", "--quiet", *overrides))
        assert code == 0, said
        for path in (bench.folder / "export").iterdir():
            assert str(tmp_path).encode() not in path.read_bytes(), path
        for manifest in (bench.workspace / "weights").glob("*/manifest.json"):
            assert str(tmp_path) not in manifest.read_text()
        weights.append(WeightStore(str(bench.workspace / "weights")).digests())
    assert weights[0] == weights[1]
    found = json.loads((bench.folder / "export" / "config.json").read_text())["glorasearch"]["provenance"]
    assert (found["backbone"], found["data"], found["space"]) == ("local-dir:vit", "npz:data.npz", "mine")
    assert found["data_sha256"].keys() == {"train", "search", "test"}
    assert len(found["backbone_sha256"]) == len(found["space_sha256"]) == 64


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("local-dir:/home/me/vit", "local-dir:vit"),
        ("local-dir:vit/", "local-dir:vit"),
        ("npz:/data/x.npz#task", "npz:x.npz#task"),
        ("folder:../pets", "folder:pets"),
        ("/home/me/spaces/own.toml", "own.toml"),
        ("spaces/own.toml", "own.toml"),
        ("~/own.toml", "own.toml"),
        ("glora_medium", "glora_medium"),
        ("timm/vit_base_patch16_224.augreg_in21k", "timm/vit_base_patch16_224.augreg_in21k"),
        ("hf-hub:timm/vit", "hf-hub:timm/vit"),
        ("torch/cifar10", "torch/cifar10"),
    ],
)
def test_the_public_name_of_a_path_is_its_last_part(text: str, public: str) -> None:
    from glorasearch.runs.paths import public_name

    assert public_name(text) == public
