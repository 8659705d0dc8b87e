"""Layers of plain vision transformers by name, so that a search space can be inspected without building a model."""

from __future__ import annotations

import re
from typing import Final

from glorasearch.choices import LayerShape
from glorasearch.space.roles import with_roles

_SHAPES: Final = {
    "tiny": (192, 12),
    "small": (384, 12),
    "medium": (512, 12),
    "base": (768, 12),
    "large": (1024, 24),
    "huge": (1280, 32),
}
"""Size → width and depth."""

_VARIANTS: Final = {
    "vit_tiny": "patch16_224 patch16_384",
    "vit_small": "patch8_224 patch16_224 patch16_384 patch32_224 patch32_384 patch14_dinov2 patch14_reg4_dinov2",
    "vit_medium": "patch16_clip_224 patch32_clip_224 patch16_reg1_gap_256 patch16_reg4_gap_256",
    "vit_base": "patch8_224 patch16_224 patch16_384 patch32_224 patch32_384 patch14_dinov2 patch14_reg4_dinov2 "
    "patch16_gap_224 patch16_reg4_gap_256 patch16_clip_224 patch16_clip_384 patch16_clip_quickgelu_224 "
    "patch32_clip_224 patch32_clip_256 patch32_clip_384 patch32_clip_448 patch32_clip_quickgelu_224 "
    "patch16_siglip_gap_224 patch16_siglip_gap_256 patch16_siglip_gap_384 patch16_siglip_gap_512 "
    "patch32_siglip_gap_256",
    "vit_large": "patch14_224 patch16_224 patch16_384 patch32_224 patch32_384 patch14_dinov2 patch14_reg4_dinov2 "
    "patch14_clip_224 patch14_clip_336 patch14_clip_quickgelu_224 patch14_clip_quickgelu_336 "
    "patch16_siglip_gap_256 patch16_siglip_gap_384 patch16_siglip_gap_512",
    "vit_huge": "patch14_224 patch14_gap_224 patch16_gap_448 patch14_clip_224 patch14_clip_336 patch14_clip_378 "
    "patch14_clip_quickgelu_224 patch14_clip_quickgelu_378",
    "deit_tiny": "patch16_224 distilled_patch16_224",
    "deit_small": "patch16_224 distilled_patch16_224",
    "deit_base": "patch16_224 patch16_384 distilled_patch16_224 distilled_patch16_384",
    "deit3_small": "patch16_224 patch16_384",
    "deit3_medium": "patch16_224",
    "deit3_base": "patch16_224 patch16_384",
    "deit3_large": "patch16_224 patch16_384",
    "deit3_huge": "patch14_224",
}
"""Family and size → variants of timm whose blocks are those of `transformer_layers`, all layers with a bias.

Around the blocks they have a patch embedding, in CLIP's without a bias and with a norm behind it, and one last norm.
"""

_SIZES: Final = {
    f"{family}_{variant}": family.rpartition("_")[2]
    for family, variants in _VARIANTS.items()
    for variant in variants.split()
}


def known_names() -> list[str]:
    """The timm names for which `known_layers` has an answer."""
    return list(_SIZES)


def known_layers(name: str) -> list[LayerShape] | None:
    """All layers of a plain ViT or DeiT by its timm name, whatever its tag (such as `.augreg_in21k`).

    None for every other name: the model has to be built then.
    """
    name = name.partition(".")[0]
    if name not in _SIZES:
        return None
    width, depth = _SHAPES[_SIZES[name]]
    clip = "_clip_" in name
    side = int(re.findall(r"patch(\d+)", name)[0])
    layers = [LayerShape("patch_embed.proj", 3 * side * side, width, not clip, "conv2d", holds_bias=not clip)]
    layers += [LayerShape("norm_pre", 1, width, kind="norm")] * clip
    inside = iter(transformer_layers(width, depth))
    for block in range(depth):
        for norm in ("norm1", "norm2"):
            layers += [LayerShape(f"blocks.{block}.{norm}", 1, width, kind="norm"), next(inside), next(inside)]
    last = "fc_norm" if re.search(r"_reg\d_gap_", name) else "norm"
    return with_roles([*layers, LayerShape(last, 1, width, kind="norm")])


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
