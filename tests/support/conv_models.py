"""Toy models of convolutions, of timm's families."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import nn

NEXT: dict[str, Any] = {"dims": (8, 8, 12, 16), "depths": (1, 1, 1, 1)}
RES: dict[str, Any] = {"channels": (8, 8, 12, 16), "layers": (1, 1, 1, 1)}
MODELS: dict[str, tuple[str, dict[str, Any], tuple[int, int]]] = {
    "convnext, 1x1 convolutions": ("convnext_atto", NEXT, (16, 0)),
    "convnext, linear MLPs": ("convnext_tiny", NEXT, (8, 8)),
    "resnet": ("resnet18", RES, (13, 0)),
    "resnet, deep stem, pooled shortcuts": ("resnet10t", {"channels": (8, 8, 12, 16)}, (15, 0)),
    "resnext, grouped": ("resnext50_32x4d", RES | {"cardinality": 4, "base_width": 32}, (17, 0)),
}
"""Name → timm name, arguments, convolutions and linear layers outside the head."""


def build(name: str) -> nn.Module:
    """A toy backbone, its weights and its batch-norm statistics all random."""
    architecture, arguments, _ = MODELS[name]
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(architecture, in_chans=1, num_classes=10, **arguments).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(std=0.2)
                module.running_var.uniform_(0.5, 2)
    return model
