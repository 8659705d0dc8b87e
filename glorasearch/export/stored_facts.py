"""What the `config.json` or the manifest of an export says of its images and outputs, as objects again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from glorasearch.data import InputSpec
from glorasearch.data.reading import Reading

_PREPROCESSING: Final = ("mean", "std", "interpolation", "crop_pct", "crop_mode")


def temperature_in(own: Mapping[str, Any]) -> float:
    """What logits are divided by before they become probabilities; 1 where the run found nothing."""
    return float((own.get("metrics") or {}).get("temperature", 1.0))


def spec_of(cfg: Mapping[str, Any]) -> InputSpec:
    """The input, from timm's `pretrained_cfg`."""
    return InputSpec(*cfg["input_size"], **{name: cfg[name] for name in _PREPROCESSING})


def reading_of(stored: Mapping[str, Any] | None) -> Reading:
    """How pixels of a file are read: as those of the training; as by default where they were arrays."""
    if stored is None:
        return Reading()
    limits = stored["pixel_range"]
    return Reading(stored["exif"], None if limits is None else (limits[0], limits[1]))


def class_names_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes; their numbers where the export has no names."""
    return tuple(config.get("label_names") or map(str, range(config["num_classes"])))
