"""What an export has to record about the backbone, so that timm alone can rebuild the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import nn

from glorasearch.adapters.rebuild import as_json, json_arguments
from glorasearch.errors import ExportError

_KEPT_CFG = (
    "input_size",
    "fixed_input_size",
    "interpolation",
    "crop_pct",
    "crop_mode",
    "mean",
    "std",
    "pool_size",
    "first_conv",
    "classifier",
    "license",
)
"""Entries of `pretrained_cfg` that also hold for the exported weights. Left out are sources of weights, formats of
other files, label names and offsets, and settings for testing at another size."""


@dataclass(frozen=True, kw_only=True)
class BackboneFacts:
    """How timm builds the original backbone."""

    architecture: str
    """timm's name without a tag: `vit_base_patch16_224`."""
    model_args: Mapping[str, Any]
    """Arguments of `timm.create_model` beyond the name and the number of classes; JSON data."""
    num_classes: int
    pretrained_cfg: Mapping[str, Any]
    """timm's `pretrained_cfg`, with the mean, std, interpolation, ... that the exported model expects."""

    @classmethod
    def from_model(cls, model: nn.Module, **preprocessing: Any) -> Self:
        """The facts of a model that `timm.create_model` built (or of a copy of it).

        Args:
            preprocessing: entries of `pretrained_cfg` to override, such as `mean` and `std` of the data.

        Raises:
            ExportError: if the model does not record how it was built.
        """
        cfg = getattr(model, "pretrained_cfg", None)
        model_args = getattr(model, "_model_args", None)
        if not isinstance(cfg, Mapping) or not cfg.get("architecture") or not isinstance(model_args, Mapping):
            raise ExportError(
                f"{type(model).__name__} does not record how timm built it (no pretrained_cfg with an architecture, or "
                "a timm that does not record its arguments): give BackboneFacts(architecture=..., model_args=..., ...)"
            )
        return cls(
            architecture=str(cfg["architecture"]),
            model_args=model_args,
            num_classes=int(model.num_classes) if isinstance(model.num_classes, int) else int(cfg["num_classes"]),
            pretrained_cfg={**cfg, **preprocessing},
        )

    def export_args(self, input_size: tuple[int, int, int]) -> dict[str, Any]:
        """The arguments as JSON data, without drop rates, which do not affect the exported model.

        timm builds a model of fixed input size for the size that its `pretrained_cfg` has. If images of another size,
        `(C, H, W)`, were seen nevertheless (`dynamic_img_size`), `img_size` is the size that it was built for.
        """
        arguments = json_arguments(self.model_args)
        own = tuple(self.pretrained_cfg.get("input_size", ()))
        if self.pretrained_cfg.get("fixed_input_size") and len(own) == 3 and own[1:] != input_size[1:]:
            arguments.setdefault("img_size", list(own[1:]))
        return arguments

    def export_cfg(self, input_size: tuple[int, int, int]) -> dict[str, Any]:
        """The entries of `pretrained_cfg` for the exported model, which takes images of `(C, H, W)`."""
        cfg = {key: self.pretrained_cfg[key] for key in _KEPT_CFG if key in self.pretrained_cfg}
        if cfg.get("license") is None:
            cfg.pop("license", None)
        if tuple(cfg.get("input_size", ())) != input_size:
            cfg["pool_size"] = None
        for key in ("mean", "std"):
            if key in cfg:
                cfg[key] = _fit_channels(cfg[key], input_size[0])
        cfg |= {"input_size": input_size, "num_classes": self.num_classes, "custom_load": False}
        return as_json(cfg, "pretrained_cfg")


def _fit_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Values per channel; those for another number of channels are averaged, as in timm."""
    return tuple(values) if len(values) == channels else (sum(values) / len(values),) * channels
