"""Budgets in bytes: what adapters take in float32, with the directions that are stored but not trained."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import tiny_vit

from glorasearch.cli.main import run as command_line
from glorasearch.errors import ConfigError, SearchSpaceError
from glorasearch.search import SearchConfig
from glorasearch.search.starts import choose_starts
from glorasearch.space import (
    BoundSpace,
    LayerShape,
    SearchSpace,
    SpaceConfig,
    Subnet,
    crossover,
    known_layers,
    mutate,
    named_points,
    repair,
    sample,
    sample_within_budget,
    simulate_sizes,
)
from glorasearch.supernet import Supernet

LAYERS = [LayerShape("blocks.0.fc1", 6, 9), LayerShape("blocks.0.fc2", 9, 6)]
PLAIN = {"B": ["none", "vector", "lora:1", "lora:2"], "E": ["none", "vector"]}
DIRECTIONS = {"B": ["none", "lora:1", "dash:1:2", "dash:2:4"], "E": ["none", "vector"]}


def space(choices: dict[str, list[str]], **budget: int) -> BoundSpace:
    return SearchSpace.from_dict({"name": "s", "choices": choices, "budget": budget}).bind(LAYERS)


def all_subnets(bound: BoundSpace) -> list[Subnet]:
    return [bound.subnet(one) for one in itertools.product(*(gene.choices for gene in bound.genes))]


def test_they_are_the_bytes_of_the_tensors() -> None:
    supernet = Supernet(
        tiny_vit(), SearchSpace.from_dict({"name": "s", "choices": {"B": ["dash:2:4"], "E": ["vector"]}})
    )
    held = sum(value.numel() * value.element_size() for value in supernet.adapter_parameters().values())
    stored = 4 * supernet.space.stored(supernet.space.largest())
    assert held == 4 * supernet.space.parameters(supernet.space.largest()) < stored
    head = set(supernet.head_parameters())
    floats = [v for name, v in supernet.adapter_state().items() if v.is_floating_point() and name not in head]
    assert stored == sum(value.numel() * value.element_size() for value in floats)


@pytest.mark.parametrize("choices", [PLAIN, DIRECTIONS])
@given(share=st.floats(0, 1.1), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_whatever_is_drawn_lies_within_them(choices: dict[str, list[str]], share: float, seed: int) -> None:
    largest = max(map(space(choices).stored, all_subnets(space(choices))))
    bound = space(choices, max_bytes=int(4 * share * largest))
    assert bound.max_bytes is not None
    fitting = {one for one in all_subnets(bound) if 4 * bound.stored(one) <= bound.max_bytes}
    assert {one for one in all_subnets(bound) if bound.fits(one)} == fitting
    rng = np.random.default_rng(seed)
    parent = sample_within_budget(bound, rng, attempts=2)
    child = crossover(bound, mutate(bound, parent, 0.5, rng), sample(bound, rng), rng)
    assert {parent, repair(bound, child, rng)} <= fitting
    assert set(named_points(bound).values()) <= fitting
    sizes = simulate_sizes(bound, 20)
    assert sizes.searched.quantiles["1"] <= max(map(bound.parameters, fitting))


def test_the_smaller_of_two_limits_counts() -> None:
    bound = space(PLAIN, min=10, max=60, max_bytes=200)
    assert bound.limits == (10, 50)
    assert space(PLAIN, max=40, max_bytes=200).limits == (0, 40)
    assert bound.budget == (10, 60)


@pytest.mark.parametrize(
    ("choices", "budget", "message"),
    [
        (
            PLAIN,
            {"min": 60, "max_bytes": 200},
            r"between 60 and 50 trainable parameters \(max_bytes is 200, 4 a number\)",
        ),
        (DIRECTIONS, {"max": 60, "max_bytes": 200}, "some choices store more than they train; give either min and max"),
        ({"B": ["lora:1", "dash:1:2"]}, {"max_bytes": 8}, "between 0 and 2 stored numbers .* reaches from 30 to"),
    ],
)
def test_what_cannot_be_met_is_refused(choices: Any, budget: dict[str, int], message: str) -> None:
    with pytest.raises(SearchSpaceError, match=message):
        space(choices, **budget)


def test_a_start_above_it_is_refused() -> None:
    config = SearchConfig(start=["mine"])
    bound = space(DIRECTIONS, max_bytes=100)
    with pytest.raises(ConfigError, match="numbers in its adapters; the budget is 0 to 25"):
        choose_starts(bound, config, {"mine": space(DIRECTIONS).largest()})


def test_a_run_file_sets_it_and_a_space_without_it_is_what_it_was() -> None:
    given, plain = SpaceConfig(name="glora_medium", max_bytes=400_000).load(), SearchSpace.load("glora_medium")
    assert given.identity()["budget"]["max_bytes"] == 400_000
    assert "max_bytes" not in json.dumps(plain.identity())
    layers = known_layers("vit_base_patch16_224")
    assert layers is not None
    assert given.bind(layers).limits[1] == 100_000


def test_the_command_shows_both_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["space", "lora", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bytes"]["largest"] == 4 * found["parameters"]["largest"]
    assert found["budget"]["max_bytes"] is None
    assert found["named_points"] == [] or found["named_points"][0]["bytes"] > 0
    assert command_line(["space", "lora_dash"]) == 0
    assert "bytes of the adapters in float32: smallest" in capsys.readouterr().out
