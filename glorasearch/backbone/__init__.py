"""Backbones: frozen pretrained timm models, built from plain facts."""

from typing import TYPE_CHECKING

from glorasearch.backbone.config import BackboneConfig
from glorasearch.lazy import lazy_names

if TYPE_CHECKING:
    from glorasearch.backbone.build import build_backbone, build_skeleton
    from glorasearch.backbone.device import resolve_device
    from glorasearch.backbone.input_check import check_input, check_model_input

__all__ = ["BackboneConfig", "build_backbone", "build_skeleton", "check_input", "check_model_input", "resolve_device"]

__getattr__ = lazy_names(
    __name__,
    {
        "build": ("build_backbone", "build_skeleton"),
        "device": ("resolve_device",),
        "input_check": ("check_input", "check_model_input"),
    },
)
