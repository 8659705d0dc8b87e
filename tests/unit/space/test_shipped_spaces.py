"""The shipped spaces on ViT-B/16, against the published parameter counts."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from glorasearch.space import BoundSpace, LayerShape, SearchSpace, known_layers, parse_choice, sample, shipped_names

LAYERS = known_layers("vit_base_patch16_224") or []
SPACES = ["bitfit", "glora_large", "glora_medium", "glora_small", "lean", "linear_probe", "lora", "lora_r8", "ssf"]
RANKS = {"glora_small": {2}, "glora_medium": {2, 4}, "glora_large": {4, 8}, "lean": {4, 8}, "lora": {4}, "lora_r8": {8}}


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
    assert shipped_names() == SPACES


@pytest.mark.parametrize("name", SPACES)
def test_every_shipped_space_binds_to_vit_b(name: str) -> None:
    space = SearchSpace.load(name)
    bound = space.bind(LAYERS)
    assert space.name == name
    assert space.description
    assert len(bound.layers) == 48
    found = {parse_choice(choice).rank for gene in bound.genes for choice in gene.choices} - {0}
    assert found == RANKS.get(name, set())


@pytest.mark.parametrize(
    ("name", "tensors", "parameters"),
    [
        ("bitfit", "E", 82_944),
        ("ssf", "ADE", 3 * 82_944),
        ("lora", "B", 589_824),
        ("lora_r8", "B", 1_179_648),
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
    assert found == pytest.approx(sum(expected_mean(layer, rank) for layer in LAYERS))
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
