"""The shipped spaces on the backbones that they are for, and against the published parameter counts."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import pytest
import timm
import torch

from glorasearch.adapters import adaptable_layers
from glorasearch.assets import quickstart_backbone_path
from glorasearch.choices import CHOICES
from glorasearch.space import BoundSpace, LayerShape, SearchSpace, parse_choice, sample, shipped_names
from glorasearch.space.known_backbones import transformer_layers

BLOCKS = ["everything", "glora_large", "glora_medium", "glora_small", "lean", "linear_probe"]
BLOCKS += ["lora", "lora_dash", "lora_r8", "lora_tsd"]
FOR_VIT = dict.fromkeys(BLOCKS, (4, 0)) | {"repadapter": (2, 0), "wegeft": (1, 0), "fourierft": (1, 0)}
FOR_VIT |= dict.fromkeys(["bitfit", "ssf"], (4 + 2, 2))
"""Name → layers of a plain vision transformer that it adapts: in every block, and outside."""
FOR_CONVOLUTIONS = ["convnext_glora", "resnet_glora"]
RANKS = {"glora_small": {2}, "glora_medium": {2, 4}, "glora_large": {4, 8}, "lean": {4, 8}, "lora": {4}, "lora_r8": {8}}
RANKS |= {"everything": {2, 4}, "lora_dash": {4}, "lora_tsd": {4}, "wegeft": {16}, "repadapter": {8}}


def layers_of(name: str, **arguments: Any) -> list[LayerShape]:
    with torch.device("meta"):
        return adaptable_layers(timm.create_model(name, num_classes=2, **arguments))


LAYERS = layers_of("vit_base_patch16_224")


def of_one_rank(rank: int) -> BoundSpace:
    """All five support tensors with one rank: the space of the published counts."""
    low = f"lora:{rank}"
    weight, bias = ["none", "constant", "vector", low], ["none", "constant", "vector"]
    choices = {"A": weight, "B": weight, "C": ["none", "vector", low], "D": bias, "E": bias}
    return SearchSpace.from_dict({"name": "one rank", "choices": choices}).bind(LAYERS)


def expected_mean(layer: LayerShape, rank: int) -> float:
    """Mean parameters of one layer with every choice drawn uniformly."""
    out, into = layer.out_features, layer.in_features
    weight = (1 + out + rank * (into + out)) / 4
    prompt = (into + rank * (into + 1)) / 3
    offset = (1 + out) / 3
    return 2 * weight + prompt + 2 * offset


def expected_variance(bound: BoundSpace) -> float:
    """The genes are drawn independently, so their variances add up."""
    return sum(statistics.pvariance(bound.costs(gene).values()) for gene in bound.genes)


def test_what_is_shipped() -> None:
    assert shipped_names() == sorted([*FOR_VIT, *FOR_CONVOLUTIONS])


@pytest.mark.parametrize("name", FOR_VIT)
def test_every_space_for_transformers_binds_to_vit_b(name: str) -> None:
    space = SearchSpace.load(name)
    bound = space.bind(LAYERS)
    assert space.name == name
    assert space.description
    assert len(bound.layers) == 12 * FOR_VIT[name][0] + FOR_VIT[name][1]
    found = {parse_choice(choice).rank for gene in bound.genes for choice in gene.choices} - {0}
    assert found == RANKS.get(name, set())


def test_every_space_for_transformers_binds_to_small_ones() -> None:
    quickstart = layers_of(f"local-dir:{quickstart_backbone_path()}")
    for name, (each, outside) in FOR_VIT.items():
        assert len(SearchSpace.load(name).bind(quickstart).layers) == 6 * each + outside, name
        linear = 4 if name in ("bitfit", "ssf") else each
        assert len(SearchSpace.load(name).bind(transformer_layers(64, 1)).layers) == linear, name


@pytest.mark.parametrize(
    ("name", "backbone", "arguments", "count"),
    [
        ("convnext_glora", "convnext_tiny", {}, 3 * 18),
        ("convnext_glora", "convnext_atto", {}, 3 * 12),
        ("convnext_glora", "convnextv2_nano", {}, 3 * 14),
        ("convnext_glora", "convnext_atto", {"dims": (8, 8, 16, 16), "depths": (1, 1, 1, 1)}, 3 * 4),
        ("resnet_glora", "resnet18", {}, 16 + 3),
        ("resnet_glora", "resnet50", {}, 48 + 4),
        ("resnet_glora", "resnet10t", {}, 8 + 3),
        ("resnet_glora", "resnext50_32x4d", {}, 48 + 4),
        ("resnet_glora", "wide_resnet50_2", {}, 48 + 4),
        ("resnet_glora", "resnet50d", {}, 48 + 4),
        ("resnet_glora", "seresnet50", {}, 48 + 4 + 2 * 16),
        ("resnet_glora", "resnet18", {"channels": (8, 8, 16, 16), "layers": (1, 1, 1, 1)}, 8 + 4),
    ],
)
def test_the_spaces_for_convolutions_bind_to_what_they_are_for(
    name: str, backbone: str, arguments: dict[str, Any], count: int
) -> None:
    layers = layers_of(backbone, **arguments)
    bound = SearchSpace.load(name).bind(layers)
    assert len(bound.layers) == count
    offered = {tensor: {gene.layer for gene in bound.genes if gene.tensor == tensor} for tensor in "ABCDE"}
    assert all(len(offered[tensor]) == count for tensor in "ABCE")
    assert offered["D"] == ({layer.name for layer in bound.layers} if name == "convnext_glora" else set())


def test_everything_has_every_method_where_it_belongs() -> None:
    """Without the exact forms of fixed methods, which reach no further than the others."""
    exact = {"gain", "repadapter", "lora_qkv", "fourier_qv"}
    bound = SearchSpace.load("everything").bind(LAYERS)
    assert len(bound.genes) == 5 * 48
    for gene in bound.genes:
        names = {parse_choice(choice).name for choice in gene.choices}
        assert names == {name for name, choice in CHOICES.items() if gene.tensor in choice.tensors} - exact
        assert not gene.share


def test_wegeft_is_one_pair_of_factors() -> None:
    bound = SearchSpace.load("wegeft").bind(LAYERS)
    assert {gene.share for gene in bound.genes} == {"projections"}
    assert [gene.layer for gene in bound.genes] == [f"blocks.{block}.attn.proj" for block in range(12)]


@pytest.mark.parametrize(
    ("name", "tensors", "parameters"),
    [
        ("bitfit", "E", 82_944 + 25 * 768 + 768),  # linear layers, norms, patch embedding: as published
        ("ssf", "AE", 2 * 102_912),  # one scale for weight and bias: two vectors wherever BitFit has one
        ("lora", "B", 589_824),
        ("lora_r8", "B", 1_179_648),
        ("lora_dash", "B", 589_824 + 8 * 48),
        ("lora_tsd", "B", 589_824 + 8 * 48),
        ("wegeft", "A", 2 * 768 * 16),
        ("fourierft", "B", 3_000 * 2 * 12),  # of query and value, as published
        ("repadapter", "A", 24 * (768 * 8 + 8 + 768 * 8 // 2 + 768)),  # the published module's own parameters
        ("linear_probe", "E", 0),
    ],
)
def test_the_fixed_points_are_one_subnet(name: str, tensors: str, parameters: int) -> None:
    bound = SearchSpace.load(name).bind(LAYERS)
    assert bound.size() == 1
    assert bound.smallest() == bound.largest()
    assert {gene.tensor for gene in bound.genes} == set(tensors)
    assert bound.parameters(bound.smallest()) == parameters


@pytest.mark.parametrize(("rank", "mean", "deviation"), [(2, 0.309, 0.029), (4, 0.500, 0.058), (8, 0.882, 0.116)])
def test_random_subnets_have_the_published_parameter_counts(rank: int, mean: float, deviation: float) -> None:
    """Exactly by formula, within 0.002 M of the published means (which were drawn), and once more by drawing."""
    bound = of_one_rank(rank)
    _, found, _ = bound.parameter_range()
    assert found == pytest.approx(sum(expected_mean(layer, rank) for layer in bound.layers))
    assert found / 1e6 == pytest.approx(mean, abs=0.002)
    exact = math.sqrt(expected_variance(bound))
    assert exact / 1e6 == pytest.approx(deviation, rel=0.03)

    rng = np.random.default_rng(0)
    drawn = [bound.parameters(sample(bound, rng)) for _ in range(400)]
    assert statistics.fmean(drawn) == pytest.approx(found, abs=4 * exact / math.sqrt(len(drawn)))
    assert statistics.stdev(drawn) == pytest.approx(exact, rel=0.15)


def test_glora_small_is_the_space_of_one_rank() -> None:
    small = SearchSpace.load("glora_small").bind(LAYERS)
    assert small.digest == of_one_rank(2).digest
    assert small.size() == 432**48
    assert small.size_exponent() == pytest.approx(48 * math.log10(432))
    assert len(small.genes) == 240
