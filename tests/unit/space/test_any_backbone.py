"""Spaces fit backbones of any family; what does not fit a layer is left out there and said, or refused if nowhere."""

from __future__ import annotations

import pytest
import timm
import torch

from glorasearch.adapters import adaptable_layers
from glorasearch.errors import SearchSpaceError
from glorasearch.space import LayerShape, SearchSpace, shipped_names
from glorasearch.space.selectors import compact

FAMILIES = ["convit_tiny", "convnext_atto", "csatv2", "efficientvit_m0", "fastvit_t8", "hrnet_w18_small", "levit_128s"]
FAMILIES += ["mixer_s16_224", "poolformer_s12", "resnet18", "resnetv2_50x1_bit", "swinv2_tiny_window8_256", "vgg11"]
CHOICES = {"B": ["none", "lora:2", "lora:4"], "E": ["none", "vector"]}


def layers_of(name: str) -> list[LayerShape]:
    with torch.device("meta"):
        return adaptable_layers(timm.create_model(name, num_classes=2))


def space(**content: object) -> SearchSpace:
    return SearchSpace.from_dict({"name": "mine", "choices": CHOICES} | content)


@pytest.mark.parametrize("backbone", FAMILIES)
def test_every_shipped_space_fits(backbone: str) -> None:
    """The searched ones take the whole body, as far as their choices fit; all together are left or taken."""
    layers = layers_of(backbone)
    body = {layer.name for layer in layers if "body" in layer.roles and layer.kind != "norm"}
    assert body
    for name in shipped_names():
        if (name, backbone) == ("repadapter", "resnetv2_50x1_bit"):
            continue  # the test below
        bound = SearchSpace.load(name).bind(layers)
        taken = {layer.name for layer in bound.layers}
        assert taken | bound.left.keys() == {layer.name for layer in layers}
        assert not taken & bound.left.keys()
        if name.startswith("glora_"):
            assert taken == body


def test_a_method_that_needs_biases_where_none_have_a_place_is_refused_with_the_reason() -> None:
    """A group norm reads each convolution there."""
    with pytest.raises(SearchSpaceError, match=r"blocks\.\*\.conv1 \(16\).* gain no bias, since timm has no place"):
        SearchSpace.load("repadapter").bind(layers_of("resnetv2_50x1_bit"))


SMALL = [LayerShape(f"blocks.{index}.attn.qkv", 8, 24) for index in range(3)]
SMALL += [LayerShape(f"blocks.{index}.attn.gate", 3, 4) for index in range(3)]


def test_a_choice_too_large_for_a_layer_is_left_out_there_with_a_notice() -> None:
    bound = space().bind(SMALL)
    offered = {gene.layer: gene.choices for gene in bound.genes if gene.tensor == "B"}
    assert offered["blocks.0.attn.qkv"] == ("none", "lora:2", "lora:4")
    assert offered["blocks.0.attn.gate"] == ("none", "lora:2")
    (notice,) = bound.notices
    assert notice == ("choices.B: 'lora:4' does not fit 3 of 6 layers, which do without it: blocks.*.attn.gate (3)")


def test_a_layer_that_nothing_fits_is_left() -> None:
    bound = space(choices={"B": ["lora:4"]}).bind(SMALL)
    assert [layer.name for layer in bound.layers] == [layer.name for layer in SMALL[:3]]
    assert bound.left == {layer.name: "no choice fits it" for layer in SMALL[3:]}


def test_a_choice_that_fits_no_layer_is_refused() -> None:
    with pytest.raises(SearchSpaceError, match=r"'lora:9' has a rank above 8.*blocks\.0\.attn\.qkv"):
        space(choices={"B": ["none", "lora:9"]}).bind(SMALL)


def test_what_is_said_then_is_the_most_that_any_layer_allows() -> None:
    with pytest.raises(SearchSpaceError, match=r"'lora:9' has a rank above 8.*blocks\.0\.attn\.qkv"):
        space(choices={"B": ["none", "lora:9"]}).bind(sorted(SMALL, key=lambda layer: layer.in_features))


def test_a_pattern_that_matches_nothing_says_what_there_is_of_other_types() -> None:
    with pytest.raises(SearchSpaceError, match=r"none of 3 layers of its layers\.types, and none of 17 of .*conv2d"):
        space(layers={"include": ["*blocks.*"]}).bind(layers_of("resnet18"))


def test_patterns_of_another_family_are_noticed() -> None:
    layers = layers_of("hrnet_w18_small")
    bound = space(layers={"include": ["layer?.*"], "types": ["conv2d"]}).bind(layers)
    assert len(bound.layers) == 4
    assert "the space takes 4 of 89 layers of the body" in bound.notices[-1]
    assert space().bind(layers).notices == ()


def test_a_role_that_a_backbone_lacks_is_refused_with_those_that_it_has() -> None:
    layers = layers_of("convnext_atto")
    with pytest.raises(SearchSpaceError) as caught:
        space(layers={"include": ["@attention"]}).bind(layers)
    for part in ("layers.include: '@attention' takes none of 40 layers", "@body 39", "@mlp 24", "@downsampling 3"):
        assert part in str(caught.value)
    assert len(space(layers={"include": ["@attention or @mlp"]}).bind(layers).layers) == 24
    assert len(space(layers={"include": ["@body"], "exclude": ["@attention", "@mlp"]}).bind(layers).layers) == 15


def test_an_unknown_role_is_refused_with_the_nearest() -> None:
    with pytest.raises(SearchSpaceError, match=r"unknown role '@atention' \(did you mean @attention\?\)"):
        space(layers={"include": ["@atention"]})


def test_layers_that_cannot_be_adapted_are_named_with_the_reason() -> None:
    refused = {f"stages.{index}.conv": "the weight is computed" for index in range(4)}
    with pytest.raises(SearchSpaceError, match=r"stages\.\*\.conv \(4\) \(the weight is computed\)"):
        space(layers={"include": ["stages.*"]}).bind(SMALL, refused)
    with pytest.raises(SearchSpaceError, match=r"none of 0 layers; 4 layers cannot be adapted: stages\.\*\.conv \(4\)"):
        space().bind([], refused)


def test_all_names_are_said_in_patterns_that_match_no_other() -> None:
    names = [f"blocks.{index}.attn.qkv" for index in range(12)]
    assert compact(names) == "blocks.*.attn.qkv (12)"
    assert compact(names[:2], names) == "blocks.0.attn.qkv, blocks.1.attn.qkv"
    assert compact(["head", *names]) == "head, blocks.*.attn.qkv (12)"
