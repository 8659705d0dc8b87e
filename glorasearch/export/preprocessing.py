"""What has to be done to an image before a model sees it, for those who have neither timm nor glorasearch."""

from __future__ import annotations

import json
from typing import Any

from glorasearch.export.adapted import AdaptedModel


def described_input(adapted: AdaptedModel) -> dict[str, Any]:
    """Input, preprocessing and outputs of a merged model; JSON data."""
    channels, height, width = adapted.input_size
    cfg = adapted.cfg
    return {
        "input": {"name": "images", "layout": "NCHW", "dtype": "float32", "shape": ["batch", channels, height, width]},
        "preprocessing": {
            "mode": "L" if channels == 1 else "RGB",
            "reading": None if adapted.reading is None else dict(adapted.reading),
            "size": [height, width],
            "interpolation": cfg.get("interpolation"),
            "crop_pct": cfg.get("crop_pct"),
            "crop_mode": cfg.get("crop_mode"),
            "scale": "from 0 to 1",
            "mean": cfg.get("mean"),
            "std": cfg.get("std"),
        },
        "output": {
            "name": "logits",
            "shape": ["batch", adapted.facts.num_classes],
            "task": adapted.task,
            "label_names": list(adapted.class_names),
            "temperature": adapted.metrics.get("temperature", 1.0),
        },
    }


def as_texts(adapted: AdaptedModel) -> dict[str, str]:
    """The same for a format whose metadata are texts, with the run and the subnet."""
    known = described_input(adapted) | {
        "provenance": dict(adapted.provenance),
        "subnet_digest": adapted.subnet.digest,
        "architecture": adapted.facts.architecture,
    }
    return {f"glorasearch.{key}": json.dumps(value) for key, value in known.items()}
