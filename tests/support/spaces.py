"""Toy search spaces, and tasks that evaluate their subnets."""

from __future__ import annotations

import itertools

from numpy.random import default_rng

from glorasearch.space import BoundSpace, EvaluationTask, LayerShape, SearchSpace, Subnet, sample

CHOICES = {"A": ["lora:2", "vector", "none"], "B": ["lora:4", "lora:2", "vector", "none"], "E": ["vector", "none"]}


def small_space(
    layers: int = 6, choices: dict[str, list[str]] | None = None, budget: dict[str, int] | None = None
) -> BoundSpace:
    """Some layers of 16 inputs and 32 outputs; at most 900 parameters unless a budget is given."""
    content = {"name": "small", "choices": choices or CHOICES, "budget": {"max": 900} if budget is None else budget}
    return SearchSpace.from_dict(content).bind([LayerShape(f"blocks.{index}.fc", 16, 32) for index in range(layers)])


def all_subnets(space: BoundSpace) -> list[Subnet]:
    """Every subnet of a small space."""
    return [space.subnet(choices) for choices in itertools.product(*(gene.choices for gene in space.genes))]


def task_of(subnet: Subnet) -> EvaluationTask:
    """Its evaluation with some weights."""
    return EvaluationTask(subnet.to_json(), subnet.digest, "weights")


def tasks_of(count: int, seed: int = 0) -> list[EvaluationTask]:
    """Tasks of `count` distinct subnets of the small space."""
    rng = default_rng(seed)
    subnets = [sample(small_space(), rng) for _ in range(count)]
    assert len(set(subnets)) == count
    return [task_of(subnet) for subnet in subnets]
