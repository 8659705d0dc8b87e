"""Layers of the plain vision transformers by name, so that a search space can be shown without building a model."""

from __future__ import annotations

import re
from typing import Final

from glorasearch.space.choices import LayerShape

_SIZES: Final = {"tiny": (192, 12), "small": (384, 12), "base": (768, 12), "large": (1024, 24)}
"""Name → width and depth."""

_NAMES: Final = re.compile(r"(?:vit|deit|deit3)_(tiny|small|base|large)_(?:distilled_)?patch(?:8|14|16|32)_(?:224|384)")


def known_layers(name: str) -> list[LayerShape] | None:
    """The linear layers of a plain ViT or DeiT by its timm name (a tag such as `.augreg_in21k` does not matter).

    None for every other name: then the model has to be built. A test compares these layers with timm's.
    """
    match = _NAMES.fullmatch(name.partition(".")[0])
    if match is None:
        return None
    return transformer_layers(*_SIZES[match[1]])


def transformer_layers(width: int, depth: int, mlp_ratio: int = 4) -> list[LayerShape]:
    """The linear layers of the blocks of a plain vision transformer, in timm's names and order."""
    hidden = width * mlp_ratio
    return [
        LayerShape(f"blocks.{block}.{layer}", inputs, outputs)
        for block in range(depth)
        for layer, inputs, outputs in (
            ("attn.qkv", width, 3 * width),
            ("attn.proj", width, width),
            ("mlp.fc1", width, hidden),
            ("mlp.fc2", hidden, width),
        )
    ]
