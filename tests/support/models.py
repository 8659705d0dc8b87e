"""Toy models: small vision transformers of timm, and chains of a few layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor, nn

from glorasearch.supernet import Supernet

TINY_VIT: dict[str, Any] = {
    "img_size": 14, "patch_size": 7, "embed_dim": 24, "depth": 2, "num_heads": 3, "in_chans": 1
}  # fmt: skip
"""Arguments of `tiny_vit` for timm: four patches of a grey image."""


def tiny_vit(**arguments: Any) -> nn.Module:
    """A vision transformer with ten classes and the same random weights at every call; arguments as for timm."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: nn.Module = timm.create_model("vit_tiny_patch16_224", **{"num_classes": 10} | TINY_VIT | arguments)
    return model.eval()


@torch.no_grad()
def randomise(supernet: Supernet, std: float = 0.2, seed: int = 0) -> Supernet:
    """Give support tensors and head random values, so that every subnet has outputs of its own."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in (supernet.adapter_parameters() | supernet.head_parameters()).values():
        parameter.normal_(std=std, generator=generator)
    return supernet


class Layers(nn.Module):
    """Some layers to adapt, one after the other, and a head to leave alone.

    Args:
        layers: by name.
        head: a classifier; its outputs are the model's only if `calls_head`.
        calls_head: end with the head, and not with the last layer.
    """

    def __init__(self, layers: Mapping[str, nn.Module], head: nn.Linear, *, calls_head: bool = False) -> None:
        super().__init__()
        self._names = list(layers)
        self._calls_head = calls_head
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.head = head

    def get_classifier(self) -> nn.Module:
        """As timm's models."""
        return self.head

    def forward(self, x: Tensor) -> Tensor:
        """The layers in their order."""
        for name in self._names:
            x = self.get_submodule(name)(x)
        return self.head(x) if self._calls_head else x
