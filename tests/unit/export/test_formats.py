"""The merged model for other runtimes: batches of any size, what it takes to use it, a card for the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors import safe_open
from safetensors.torch import load_file
from support.exports import adapted
from torch import Tensor, nn

from glorasearch.errors import ExportError
from glorasearch.export import AdaptedModel, compare_format, export_format
from glorasearch.export.formats import FORMATS
from glorasearch.export.front_matter import hub_name
from glorasearch.export.timm_directory import timm_state
from glorasearch.runs import files

MODELS = ("vit", "swin_bias_gained", "convnext", "beit", "resnet")
METRICS = {"test_accuracy": 0.75, "test_macro_f1": 0.5, "test_accuracy_inherited": 0.25, "temperature": 1.5}


def own(name: str) -> AdaptedModel:
    names = tuple(f"class {number}" for number in range(10))
    provenance = {"run": "toy", "data": "folder:my flowers"}
    return adapted(name, class_names=names, metrics=METRICS, provenance=provenance)


@pytest.mark.parametrize("name", MODELS)
def test_onnx(name: str, tmp_path: Path) -> None:
    model = own(name)
    export_format(model, "onnx", tmp_path / "o")
    file = str(tmp_path / "o" / "model.onnx")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for batch in (1, 2, 5):
        (found,) = session.run(["logits"], {"images": model.images[:batch].numpy()})
        np.testing.assert_allclose(found, model.active(model.images[:batch]).detach().numpy(), atol=1e-4)
    stored = {one.key: json.loads(one.value) for one in onnx.load(file).metadata_props}
    assert stored["glorasearch.input"]["shape"] == ["batch", *model.input_size]
    assert stored["glorasearch.preprocessing"]["mean"] == list(model.cfg["mean"])
    assert stored["glorasearch.output"]["label_names"][3] == "class 3"
    assert stored["glorasearch.output"]["temperature"] == 1.5
    assert session.get_inputs()[0].shape == ["batch", *model.input_size]


@pytest.mark.parametrize("name", MODELS)
def test_torch_export_and_weights(name: str, tmp_path: Path) -> None:
    model = own(name)
    for format in ("torch-export", "safetensors"):
        export_format(model, format, tmp_path / format)
        assert compare_format(model, tmp_path / format) < 1e-4
    extra: dict[str, Any] = {"glorasearch.output": ""}
    program = torch.export.load(tmp_path / "torch-export/model.pt2", extra_files=extra).module()
    for batch in (1, 5):
        torch.testing.assert_close(program(model.images[:batch]), model.active(model.images[:batch]), atol=1e-4, rtol=0)
    assert json.loads(extra["glorasearch.output"])["label_names"][0] == "class 0"
    with safe_open(tmp_path / "safetensors/model.safetensors", "pt") as weights:
        assert json.loads(weights.metadata()["glorasearch.provenance"])["run"] == "toy"
        assert json.loads(weights.metadata()["glorasearch.output"])["shape"] == ["batch", 10]
    found = load_file(tmp_path / "safetensors/model.safetensors")
    assert found.keys() == timm_state(model.model, model.facts, model.input_size)[0].keys()


def test_what_torch_cannot_follow_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    class Fickle(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, : 10 if images.sum() > 0 else 9]

    model = own("vit")
    model.__dict__["model"] = Fickle()
    for format in ("onnx", "torch-export"):
        with pytest.raises(ExportError, match=r"torch.export cannot follow vit_tiny_patch16_224 for batches"):
            export_format(model, format, tmp_path / "x")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", FORMATS)
def test_cards_are_read_by_the_hub(format: str, tmp_path: Path) -> None:
    choices = {"A": ["none"], "B": ["lora:2"], "C": ["none"], "D": ["none"], "E": ["none"]}
    model = adapted("vit", choices, metrics=METRICS, provenance={"run": "toy", "data": "folder:my flowers"})
    export_format(model, format, tmp_path / "x")
    card = ModelCard.load(tmp_path / "x" / "README.md")
    assert card.data.model_name == "toy"
    assert [(one.metric_type, one.metric_value) for one in card.data.eval_results] == [("accuracy", 0.75), ("f1", 0.5)]
    assert (card.data.eval_results[0].dataset_name, card.data.eval_results[0].dataset_type) == (
        "folder:my flowers",
        "folder-my-flowers",
    )
    assert ModelCard(str(card)).data.to_dict() == card.data.to_dict()
    program = card.text.split("```python\n")[1].split("```")[0]
    compile(program, "card", "exec")


def test_names_on_the_hub() -> None:
    facts = own("vit").facts
    known = {**facts.pretrained_cfg, "hf_hub_id": "timm/", "tag": "augreg"}
    facts = type(facts)(architecture="vit_x", model_args={}, num_classes=2, pretrained_cfg=known)
    assert hub_name(facts, {"name": "vit_x"}) == "timm/vit_x.augreg"
    for source in ({"name": "local-dir:x"}, {"name": "vit_x", "checkpoint": "w.npz"}, {}):
        assert hub_name(facts, source) is None
    assert hub_name(facts, {"name": "vit_x", "pretrained": False}) is None


def test_the_command_line_knows_every_format() -> None:
    assert ("timm", *FORMATS) == files.FORMATS
