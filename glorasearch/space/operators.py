"""Genetic operators on subnets: uniform sampling, mutation, crossover, and repair to the budget.

They are functions of their arguments, among them a `numpy.random.Generator`; none has state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from glorasearch.space.bound import BoundSpace, Gene
from glorasearch.space.subnet import GeneKey, Subnet


def sample(space: BoundSpace, rng: Generator) -> Subnet:
    """A subnet with every choice sampled uniformly, ignoring the budget."""
    return space.subnet(_draw(space.genes, rng))


def sample_within_budget(space: BoundSpace, rng: Generator, attempts: int = 20) -> Subnet:
    """A uniformly sampled subnet within the budget: rejection sampling, and after `attempts` failures repair."""
    for _ in range(attempts):
        subnet = sample(space, rng)
        if space.fits(subnet):
            return subnet
    return repair(space, subnet, rng)


def mutate(space: BoundSpace, parent: Subnet, probability: float, rng: Generator) -> Subnet:
    """The parent with each gene resampled, independently, with the given probability."""
    hits = (rng.random(len(space.genes)) < probability).tolist()
    genes = [gene for gene, hit in zip(space.genes, hits, strict=True) if hit]
    return parent.replace({gene.key: choice for gene, choice in zip(genes, _draw(genes, rng), strict=True)})


def crossover(space: BoundSpace, first: Subnet, second: Subnet, rng: Generator) -> Subnet:
    """A child that takes each gene from either parent with equal probability."""
    return crossover_by_mask(space, first, second, crossover_mask(space, rng))


def crossover_mask(space: BoundSpace, rng: Generator) -> NDArray[np.bool_]:
    """The random part of `crossover`: for every gene, whether it comes from the first parent."""
    return rng.random(len(space.genes)) < 0.5


def crossover_by_mask(space: BoundSpace, first: Subnet, second: Subnet, mask: NDArray[np.bool_]) -> Subnet:
    """The deterministic part of `crossover`: each gene from the first parent where the mask says so."""
    genes = zip(space.genes, mask.tolist(), strict=True)
    return space.subnet([first[gene.key] if from_first else second[gene.key] for gene, from_first in genes])


def repair(space: BoundSpace, subnet: Subnet, rng: Generator) -> Subnet:
    """The subnet, changed at random genes until it lies within the budget.

    Each step moves one random gene to a random choice with fewer parameters (above the budget) or more (below it),
    without overshooting the other limit. If that gets stuck, an exact walk over the genes keeps each choice from which
    the budget can still be met, so the repair always succeeds if any subnet lies within the budget.

    Raises:
        SearchSpaceError: if no subnet lies within the budget, or the given one does not belong to the space.
    """
    space.check(subnet)
    least, most = space.limits
    total = space.counted(subnet)
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
    least, most = space.limits
    chosen: dict[GeneKey, str] = {}
    spent, state = 0, space.within.start
    for index, gene in enumerate(space.walk):
        options = [gene.choices[position] for position in space.within.options(index, spent, least, most, state)]
        choice = subnet[gene.key]
        if choice not in options:
            choice = options[int(rng.integers(len(options)))]
        chosen[gene.key] = choice
        price = space.price(gene, choice)
        spent, state = spent + price.own, space.within.after(state, price)
    return space.subnet(chosen[gene.key] for gene in space.genes)


def _totals(space: BoundSpace, current: Mapping[GeneKey, str], total: int, gene: Gene) -> dict[str, int]:
    """What the budget counts of the subnet with each choice of a gene."""
    if space.shares(gene):
        return {choice: space.counted(Subnet({**current, gene.key: choice})) for choice in gene.choices}
    costs = {choice: space.price(gene, choice).own for choice in gene.choices}
    return {choice: total + cost - costs[current[gene.key]] for choice, cost in costs.items()}


def _draw(genes: Sequence[Gene], rng: Generator) -> list[str]:
    """A choice of each gene, the same as if they were drawn one after the other, which takes longer."""
    if not genes:
        return []
    places = rng.integers([len(gene.choices) for gene in genes]).tolist()
    return [gene.choices[place] for gene, place in zip(genes, places, strict=True)]


def repair_order(space: BoundSpace, rng: Generator) -> list[int]:
    """The random numbers that `repair` draws for a subnet within the budget: the free genes in random order, twice."""
    count = len(space.free_genes)
    return [*rng.permutation(count).tolist(), *rng.permutation(count).tolist()]
