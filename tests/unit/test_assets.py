"""The quickstart's backbone is complete, small, what its card says, and loaded by timm as float32."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from glorasearch.assets import quickstart_backbone_path

FILES = {"config.json", "model.safetensors", "README.md", "LICENSE-fashion-mnist"}


@pytest.fixture(scope="module")
def path() -> Path:
    return quickstart_backbone_path()


@pytest.fixture(scope="module")
def model(path: Path) -> nn.Module:
    return timm.create_model(f"local-dir:{path}", pretrained=True).eval()


def test_the_files_are_there_and_small(path: Path) -> None:
    assert {file.name for file in path.iterdir()} == FILES
    assert sum(file.stat().st_size for file in path.iterdir()) <= 2_000_000


def test_the_card_names_the_weights_and_the_licence(path: Path, model: nn.Module) -> None:
    card = (path / "README.md").read_text()
    assert hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest() in card
    assert f"{sum(p.numel() for p in model.parameters()):,}" in card
    assert "scripts/pretrain_quickstart_backbone.py" in card
    accuracy = re.search(r"Test accuracy on Fashion-MNIST \| (0\.\d{4}) ", card)
    assert accuracy is not None
    assert float(accuracy[1]) > 0.85
    licence = (path / "LICENSE-fashion-mnist").read_text()
    assert "MIT License" in licence
    assert "Copyright (c) 2017 Zalando SE" in licence


def test_timm_loads_every_stored_tensor_into_float32(path: Path, model: nn.Module) -> None:
    stored = load_file(path / "model.safetensors")
    loaded = model.state_dict()
    assert stored.keys() == loaded.keys()
    for name, tensor in stored.items():
        assert loaded[name].dtype == torch.float32
        assert torch.isfinite(tensor).all(), name
        assert torch.equal(loaded[name], tensor.float()), name


def test_the_pretrained_cfg_describes_the_input(path: Path, model: nn.Module) -> None:
    cfg = cast(dict[str, Any], model.pretrained_cfg)
    assert tuple(cfg["input_size"]) == (1, 28, 28)
    assert tuple(cfg["mean"]) == (0.286,)
    assert tuple(cfg["std"]) == (0.353,)
    assert cfg["num_classes"] == 10
    assert len(json.loads((path / "config.json").read_text())["label_names"]) == 10


def test_it_can_be_built_for_another_number_of_classes(path: Path) -> None:
    model = timm.create_model(f"local-dir:{path}", pretrained=True, num_classes=3).eval()
    logits = model(torch.zeros(2, 1, 28, 28))
    assert logits.shape == (2, 3)
    assert torch.isfinite(logits).all()


def test_it_knows_a_pair_of_trousers(model: nn.Module) -> None:
    """A drawing, so that no data set is needed: two legs and a waist; and a class is not always the same one."""
    trousers = torch.zeros(1, 1, 28, 28)
    trousers[..., 2:7, 9:19] = 0.7
    trousers[..., 7:26, 9:13] = 0.7
    trousers[..., 7:26, 15:19] = 0.7
    bag = torch.zeros(1, 1, 28, 28)
    bag[..., 12:25, 3:25] = 0.7
    bag[..., 5:12, 8:10] = 0.5
    bag[..., 5:12, 18:20] = 0.5
    bag[..., 5:7, 8:20] = 0.5
    images = (torch.cat([trousers, bag]) - 0.286) / 0.353
    with torch.inference_mode():
        assert model(images).argmax(1).tolist() == [1, 8]
