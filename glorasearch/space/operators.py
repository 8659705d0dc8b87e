"""Genetic operators on subnets: uniform draws, mutation, crossover, and repair to the budget.

Every function takes its `numpy.random.Generator`; none has state.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from glorasearch.space.bound import BoundSpace, Gene
from glorasearch.space.subnet import GeneKey, Subnet


def sample(space: BoundSpace, rng: Generator) -> Subnet:
    """A subnet with every choice drawn uniformly, the budget not considered."""
    return space.subnet(_draw(gene, rng) for gene in space.genes)


def sample_within_budget(space: BoundSpace, rng: Generator, attempts: int = 20) -> Subnet:
    """A uniformly drawn subnet that lies within the budget: rejection, and after `attempts` failures repair."""
    for _ in range(attempts):
        subnet = sample(space, rng)
        if space.within_budget(space.parameters(subnet)):
            return subnet
    return repair(space, subnet, rng)


def mutate(space: BoundSpace, parent: Subnet, probability: float, rng: Generator) -> Subnet:
    """The parent with each gene drawn anew, independently, with the given probability."""
    hits = (rng.random(len(space.genes)) < probability).tolist()
    return parent.replace({gene.key: _draw(gene, rng) for gene, hit in zip(space.genes, hits, strict=True) if hit})


def crossover(space: BoundSpace, first: Subnet, second: Subnet, rng: Generator) -> Subnet:
    """A child that takes each gene from either parent with equal probability."""
    return cross(space, first, second, coins(space, rng))


def coins(space: BoundSpace, rng: Generator) -> NDArray[np.bool_]:
    """What `crossover` draws: for every gene, whether it comes from the first parent."""
    return rng.random(len(space.genes)) < 0.5


def cross(space: BoundSpace, first: Subnet, second: Subnet, heads: NDArray[np.bool_]) -> Subnet:
    """What `crossover` makes of what it has drawn."""
    choices = zip(space.genes, heads.tolist(), strict=True)
    return space.subnet([first[gene.key] if head else second[gene.key] for gene, head in choices])


def repair(space: BoundSpace, subnet: Subnet, rng: Generator) -> Subnet:
    """The subnet, changed at random genes until it lies within the budget.

    Each step moves one random gene to a random choice that is cheaper (above the budget) or dearer (below it), without
    passing the far limit. When that gets stuck, an exact walk over the genes keeps each choice from which the budget
    can still be met, so that the repair always ends within the budget if any subnet does.

    Raises:
        SearchSpaceError: if no subnet lies within the budget, or the given one is not of the space.
    """
    space.check(subnet)
    least, most = space.budget
    total = space.parameters(subnet)
    positions = repair_order(space, rng)
    if space.within_budget(total) and space.complete(subnet):
        return subnet
    current: dict[GeneKey, str] = {gene.key: subnet[gene.key] for gene in space.genes}
    for position in positions:
        if space.within_budget(total):
            return Subnet(current)
        gene = space.free_genes[position]
        totals = _totals(space, current, total, gene)
        above = most is not None and total > most
        moves = [
            choice
            for choice, changed in totals.items()
            if (least <= changed < total if above else total < changed) and (above or most is None or changed <= most)
        ]
        if moves:
            current[gene.key] = moves[int(rng.integers(len(moves)))]
            total = totals[current[gene.key]]
    if space.within_budget(total):
        return Subnet(current)
    return _exact_walk(space, Subnet(current), rng)


def _exact_walk(space: BoundSpace, subnet: Subnet, rng: Generator) -> Subnet:
    space.check_budget()
    least, most = space.budget
    chosen: list[str] = []
    spent, state = 0, space.reachable.start
    for index, gene in enumerate(space.genes):
        options = [gene.choices[position] for position in space.reachable.options(index, spent, least, most, state)]
        choice = subnet[gene.key]
        if choice not in options:
            choice = options[int(rng.integers(len(options)))]
        chosen.append(choice)
        price = space.price(gene, choice)
        spent, state = spent + price.own, space.reachable.after(state, price)
    return space.subnet(chosen)


def _totals(space: BoundSpace, current: Mapping[GeneKey, str], total: int, gene: Gene) -> dict[str, int]:
    """What the subnet would cost with each choice of a gene."""
    if space.shares(gene):
        return {choice: space.parameters(Subnet({**current, gene.key: choice})) for choice in gene.choices}
    costs = space.costs(gene)
    return {choice: total + cost - costs[current[gene.key]] for choice, cost in costs.items()}


def _draw(gene: Gene, rng: Generator) -> str:
    return gene.choices[int(rng.integers(len(gene.choices)))]


def repair_order(space: BoundSpace, rng: Generator) -> list[int]:
    """What `repair` draws of a subnet that lies within the budget: the free genes in random order, twice."""
    count = len(space.free_genes)
    return [*rng.permutation(count).tolist(), *rng.permutation(count).tolist()]
