"""What the card of each format beside timm's says of it: an introduction, and how it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import timm

INTRODUCTIONS: Final = {
    "adapter": "What was trained, without the backbone: the subnet, the parts of its choices and the head, in the form "
    "of glorasearch. It is loaded on the backbone whose frozen weights have the digest {digest}.",
    "peft": "An adapter for PEFT: low-rank factors, biases, norms and a head, for the backbone that timm builds.",
    "onnx": "The merged model for ONNX's runtimes, for batches of any size. Input, preprocessing and labels are in the "
    "metadata of the file, too, as JSON under `glorasearch.*`.",
    "torch-export": "The merged model as a program of `torch.export`, for batches of any size; it needs torch alone. "
    "Input, preprocessing and labels are in its extra files, too, as JSON under `glorasearch.*`.",
    "safetensors": "The merged weights alone, by the names that timm gives them.",
}
_EXAMPLES: Final = {
    "adapter": """from glorasearch.export import Adapter

model = Adapter.load("PATH").model()  # PATH: this directory; or .model(backbone), with a backbone of yours""",
    "peft": """import timm
from peft import PeftModel

backbone = timm.create_model({backbone!r}, {pretrained}num_classes={num_classes}{own}){whose}
model = PeftModel.from_pretrained(backbone, "PATH").merge_and_unload().eval()  # PATH: this directory""",
    "onnx": """import onnxruntime

session = onnxruntime.InferenceSession("PATH/model.onnx")  # PATH: this directory
logits = session.run(None, {{"images": images}})[0]  # images: float32, (batch, {shape})""",
    "torch-export": """import torch

model = torch.export.load("PATH/model.pt2").module()  # PATH: this directory
logits = model(images)  # images: float32, (batch, {shape})""",
    "safetensors": """import timm
from safetensors.torch import load_file

model = timm.create_model({architecture!r}, num_classes={num_classes}{arguments}).eval()
model.load_state_dict(load_file("PATH/model.safetensors"))  # PATH: this directory""",
}


def introduction(format: str, facts: Mapping[str, Any]) -> str:
    """What an export of that format with that manifest is."""
    return INTRODUCTIONS[format].format(digest=f"`{facts['backbone']['digest'][:12]}...`")


def loading(format: str, facts: Mapping[str, Any]) -> str:
    """A program that loads it."""
    given = {key: value for key, value in facts["model_args"].items() if key != "num_classes"}
    source = facts["backbone"]
    name = str(source.get("name", facts["architecture"]))
    digest = f"the frozen weights of SHA-256 {source['digest'][:12]}..."
    return _EXAMPLES[format].format(
        architecture=facts["architecture"],
        backbone=name,
        pretrained="pretrained=True, " if source.get("pretrained", True) else "",
        num_classes=facts["num_classes"],
        own="".join(f", {key}={value!r}" for key, value in source.get("args", {}).items()),
        whose="" if timm.is_model(name.partition(".")[0]) and not source.get("checkpoint") else f"  # with {digest}",
        arguments="".join(f", {key}={value!r}" for key, value in given.items()),
        shape=", ".join(map(str, facts["pretrained_cfg"]["input_size"])),
    )
