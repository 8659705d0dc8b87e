"""The metadata at the head of a model card, in the form that the Hugging Face hub reads: YAML, with a model index."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from glorasearch.export.backbone_facts import BackboneFacts

_LIBRARIES: Final = {"adapter": "glorasearch", "peft": "peft", "onnx": "onnx", "torch-export": "pytorch"}
"""Format → the library that loads it; timm where nothing is said."""
_TYPES: Final = {
    "accuracy": "accuracy",
    "macro_f1": "f1",
    "micro_f1": "f1",
    "auc": "roc_auc",
}
"""Metric of the test images → its name on the hub, where that is another or known."""
_LICENSES: Final = (
    "apache-2.0", "apple-amlr", "apple-ascl", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0", "cc-by-sa-4.0", "cc0-1.0", "fair-noncommercial-research-license", "gemma", "gpl-3.0", "mit",
    "openrail", "other", "unknown",
)  # fmt: skip
"""Licences of timm's weights that the hub knows by name; it refuses a card with another one."""
_NO_METRIC: Final = ("test_accuracy_inherited",)
"""Of another model than that of the card."""
_TASK: Final = {"type": "image-classification", "name": "Image Classification"}
_NUMBERS: Final = {"type": "image-feature-extraction", "name": "Image Regression"}
"""The hub has no task of its own for numbers of an image."""


def front_matter(config: Mapping[str, Any], format: str = "timm", base_model: str | None = None) -> str:
    """The metadata of a model with that `config.json`, between its two lines of dashes.

    Values are JSON, which is YAML, too.
    """
    own, cfg = config["glorasearch"], config["pretrained_cfg"]
    kind = _task(own)["type"]
    tags = ["timm", kind, "parameter-efficient", "glorasearch"]
    tags += ["image-regression"] if own.get("task") == "regress" else []
    tags += ["multi-label"] if own.get("task") == "multilabel" else []
    lines = [f"library_name: {_LIBRARIES.get(format, 'timm')}", f"pipeline_tag: {kind}", "tags:"]
    lines += [f"- {tag}" for tag in tags]
    if license := cfg.get("license"):
        known = license in _LICENSES
        lines += (
            [f"license: {json.dumps(license)}"] if known else ["license: other", f"license_name: {json.dumps(license)}"]
        )
    if base_model is not None:
        lines += [f"base_model: {json.dumps(base_model)}", "base_model_relation: adapter"]
    return "\n".join(["---", *lines, *_model_index(own), "---"])


def hub_name(facts: BackboneFacts, source: Mapping[str, Any]) -> str | None:
    """The backbone's name on the hub, `timm/...`; None if its weights are not those of there.

    Args:
        facts: of the backbone, as timm built it.
        source: its section of the run file.
    """
    cfg = facts.pretrained_cfg
    if source.get("checkpoint") or not source.get("pretrained", True) or ":" in str(source.get("name", ":")):
        return None
    hub, tag = str(cfg.get("hf_hub_id") or ""), cfg.get("tag")
    name = f"{facts.architecture}.{tag}" if tag else facts.architecture
    return f"{hub}{name}" if hub.endswith("/") else hub or None


def _task(own: Mapping[str, Any]) -> dict[str, str]:
    return _NUMBERS if own.get("task") == "regress" else _TASK


def _model_index(own: Mapping[str, Any]) -> Iterator[str]:
    """The metrics on the test images; nothing where there are none."""
    metrics = [
        {"type": _TYPES.get(name, name), "name": f"{name.replace('_', ' ')} on the test split", "value": value}
        for key, value in own["metrics"].items()
        if key.startswith("test_") and key not in _NO_METRIC and isinstance(value, int | float)
        for name in (key.removeprefix("test_"),)
    ]
    provenance = own["provenance"]
    if not metrics or not provenance.get("run"):
        return
    data = str(provenance.get("data") or "unnamed")
    dataset = {"type": re.sub(r"[^A-Za-z0-9_./-]+", "-", data), "name": data, "split": "test"}
    yield "model-index:"
    yield f"- name: {json.dumps(provenance['run'])}"
    yield "  results:"
    yield f"  - task: {json.dumps(_task(own))}"
    yield f"    dataset: {json.dumps(dataset)}"
    yield "    metrics:"
    yield from (f"    - {json.dumps(metric)}" for metric in metrics)
