"""Convolutions of every form, and supernets of them, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from glorasearch.space import SearchSpace
from glorasearch.supernet import Supernet
from support.models import Layers

CHOICES = {
    "A": ["none", "constant", "vector", "lora:1", "lora:2"],
    "B": ["none", "constant", "vector", "lora:2"],
    "C": ["none", "vector", "lora:1"],
    "D": ["none", "constant", "vector"],
    "E": ["none", "constant", "vector"],
}

FORMS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "pointwise": ((6, 4, 1), {}),
    "pointwise, strided": ((4, 6, 1), {"stride": 2}),
    "pointwise, padded": ((4, 5, 1), {"padding": 1}),
    "patches": ((3, 8, 2), {"stride": 2}),
    "oblong patches": ((3, 5, (1, 3)), {"stride": (2, 3), "bias": False}),
    "strided": ((4, 6, 3), {"stride": 2, "padding": 1}),
    "dilated": ((4, 4, (2, 3)), {"dilation": 2, "padding": (1, 2), "bias": False}),
    "groups": ((4, 6, 3), {"groups": 2, "padding": 1, "bias": False}),
    "depthwise": ((5, 5, 3), {"groups": 5, "padding": 1}),
    "depthwise, doubled": ((4, 8, (3, 5)), {"groups": 4, "padding": 2, "stride": (1, 2)}),
    "circular": ((3, 7, (2, 3)), {"padding": (1, 2), "padding_mode": "circular", "stride": (1, 2)}),
    "same": ((2, 5, (2, 3)), {"padding": "same", "dilation": (3, 1)}),
    "overlapping patches": ((3, 6, 3), {"stride": 2}),
}
"""Arguments of a convolution."""


def supernet_of(
    convolutions: Sequence[nn.Conv2d], choices: dict[str, list[str]] = CHOICES, entangle: str = "untied", seed: int = 1
) -> Supernet:
    """A chain of convolutions, all that choices store random."""
    named = {f"layer{number}": conv.double() for number, conv in enumerate(convolutions)}
    layers = {"include": ["layer*"], "types": ["conv2d", "linear"]}
    content = {"name": "all", "layers": layers, "choices": choices, "entangle": entangle}
    net = Supernet(Layers(named, nn.Linear(2, 2)).double(), SearchSpace.from_dict(content))
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.adapter_parameters().values():
        parameter.data.normal_(std=0.3, generator=generator)
    return net


def input_of(convolution: nn.Conv2d, height: int = 9, width: int = 8, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, convolution.in_channels, height, width, generator=generator, dtype=torch.float64)


def convolution(form: str) -> nn.Conv2d:
    given, options = FORMS[form]
    torch.manual_seed(0)
    return nn.Conv2d(*given, **options)  # type: ignore[arg-type]
