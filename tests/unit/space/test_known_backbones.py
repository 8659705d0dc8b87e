"""Layers that are known by name are those of timm's models."""

from __future__ import annotations

import pytest
import timm
import torch

from glorasearch.adapters import adaptable_layers
from glorasearch.space import LayerShape, known_layers, known_names


def described(layers: list[LayerShape] | None) -> object:
    return [(layer, layer.roles) for layer in layers or []]


def layers_of_timm(name: str) -> object:
    with torch.device("meta"):
        return described(adaptable_layers(timm.create_model(name, num_classes=2)))


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "vit_small_patch16_224",
        "vit_small_patch14_reg4_dinov2",
        "vit_medium_patch16_clip_224",
        "vit_medium_patch16_reg4_gap_256",
        "vit_base_patch16_224",
        "vit_base_patch16_siglip_gap_224",
        "deit_tiny_distilled_patch16_224",
        "deit3_small_patch16_224",
        "vit_large_patch14_clip_224",
        "deit3_huge_patch14_224",
    ],
)
def test_known_layers_are_those_of_timm(name: str) -> None:
    """One of each family and size; all of them in the slow test below."""
    assert described(known_layers(name)) == layers_of_timm(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", known_names())
def test_all_known_layers_are_those_of_timm(name: str) -> None:
    assert described(known_layers(name)) == layers_of_timm(name)


def test_every_known_name_is_a_model_of_timm() -> None:
    unknown = [name for name in known_names() if not timm.is_model(name)]
    assert not unknown


def test_a_tag_does_not_matter() -> None:
    assert known_layers("vit_base_patch16_224.augreg_in21k") == known_layers("vit_base_patch16_224")


@pytest.mark.parametrize(
    "name",
    [
        "vit_base_patch16_224_miil",  # no bias in qkv
        "vit_medium_patch16_gap_256",  # no bias in qkv
        "vit_base_patch16_rpn_224",
        "vit_base_patch16_siglip_224",  # attention pooling has linear layers too
        "vit_small_patch16_36x1_224",  # 36 blocks
        "vit_base_patch16_plus_240",  # another width
        "vit_tiny_patch8_224",  # timm has no such model
        "swin_tiny_patch4_window7_224",
        "local-dir:/somewhere",
        "",
    ],
)
def test_other_models_have_to_be_built(name: str) -> None:
    assert known_layers(name) is None
