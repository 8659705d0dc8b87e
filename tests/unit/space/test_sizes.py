"""The distribution of sizes: against the exact mean and the exact share of a space that can be counted."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from glorasearch.cli.main import group
from glorasearch.errors import SearchSpaceError
from glorasearch.space import BoundSpace, LayerShape, SearchSpace, simulate_sizes

LAYERS = [LayerShape("a", 6, 4, bias=True), LayerShape("b", 4, 6, bias=True)]


def space_of(choices: dict[str, list[str]], most: int | None) -> BoundSpace:
    content: dict[str, Any] = {"name": "small", "choices": choices}
    return SearchSpace.from_dict(content | ({} if most is None else {"budget": {"max": most}})).bind(LAYERS)


def small_space(most: int | None = None) -> BoundSpace:
    return space_of({"B": ["none", "lora:1", "lora:2"], "E": ["none", "vector"]}, most)


def all_sizes(space: BoundSpace) -> list[int]:
    every = itertools.product(*(gene.choices for gene in space.genes))
    return [space.parameters(space.subnet(choices)) for choices in every]


def test_draws_are_distributed_as_all_subnets_are() -> None:
    space = small_space(20)
    sizes = all_sizes(space)
    draws = 4_000

    found = simulate_sizes(space, draws, seed=1)

    error = 4 / np.sqrt(draws)
    share = np.mean([size <= 20 for size in sizes])
    assert found.within_budget == pytest.approx(share, abs=error)
    assert found.uniform.mean == pytest.approx(np.mean(sizes), abs=error * np.std(sizes))
    assert found.uniform.quantiles["0"] == min(sizes)
    assert found.uniform.quantiles["1"] == max(sizes)
    exact = np.histogram(sizes, found.edges)[0] / len(sizes)
    assert np.abs(np.array(found.uniform.counts) / draws - exact).max() < error
    assert sum(found.uniform.counts) == sum(found.searched.counts) == draws
    inside = Counter(size for size in sizes if size <= 20)
    assert found.searched.quantiles["1"] == max(inside)
    mean = sum(size * number for size, number in inside.items()) / sum(inside.values())
    assert found.searched.mean == pytest.approx(mean, abs=error * 20)
    assert simulate_sizes(space, 50, seed=1) == simulate_sizes(space, 50, seed=1) != simulate_sizes(space, 50, seed=2)


def test_without_a_budget_both_are_the_same() -> None:
    found = simulate_sizes(small_space(), 50)

    assert found.within_budget == 1
    assert found.searched == found.uniform


def test_a_budget_that_no_subnet_meets_is_refused() -> None:
    with pytest.raises(SearchSpaceError, match="no subnet has"):
        simulate_sizes(space_of({"B": ["lora:1"]}, 3), 5)


def test_the_command_shows_it() -> None:
    def output(*arguments: str) -> str:
        result = CliRunner().invoke(group, ["space", *arguments], env={"COLUMNS": "60"})
        assert result.exit_code == 0, result.output
        return result.output

    shown = output("glora_medium", "--simulate", "20", "--max", "500000")
    assert "20 subnets drawn uniformly (seed 0)" in shown
    assert "█" in shown
    assert max(map(len, shown[shown.index("trainable parameters  ") :].partition("uniform: ")[0].splitlines())) <= 60
    described = json.loads(output("glora_medium", "--simulate", "20", "--max", "500000", "--json"))["simulated"]
    assert described["searched"]["quantiles"]["1"] <= 500_000 < described["uniform"]["quantiles"]["1"]
    assert "589,824   100.0 %" in output("lora", "--simulate", "5")
    assert "simulated" not in json.loads(output("lora", "--json"))
