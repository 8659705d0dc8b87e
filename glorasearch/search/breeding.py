"""How a child is bred: the operators of the GLoRA paper, within the budget, and not what was met before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray

from glorasearch.space import BoundSpace, Subnet, mutate, repair, sample_within_budget
from glorasearch.space.operators import coins, cross, repair_order

ATTEMPTS: Final = 10
"""Draws of a child until one was not met before; then a fresh random subnet is taken."""
REMEMBERED: Final = 10_000
"""Crossover children that are remembered to have been met."""


class Breeding:
    """Makes the child of a trial: all draws come from a generator that is seeded by (seed, number).

    Args:
        space: with its budget.
        mutation: probability that a mutant draws a gene anew.
        seed: of the search.
    """

    def __init__(self, space: BoundSpace, mutation: float, seed: int) -> None:
        self._space = space
        self._mutation = mutation
        self._seed = seed
        self._indices = {gene.key: {text: index for index, text in enumerate(gene.choices)} for gene in space.genes}
        self._coded: dict[str, NDArray[np.uint16]] = {}
        """Digest of a parent → its choices by index."""
        self._known: set[bytes] = set()
        """Choices of children that lie within the budget and were met. A search that has settled makes hardly any
        others, ten in a row: for these no subnet is built, the same numbers are drawn."""

    def child(self, number: int, elite: Sequence[Subnet], mutant: bool, met: Callable[[Subnet], bool]) -> Subnet:
        """A subnet within the budget for trial `number`.

        Args:
            number: of the trial.
            elite: the parents; without any the child is random, and so is a crossover child of one parent.
            mutant: a mutant of one parent rather than a crossover child of two.
            met: whether another trial has a subnet already; it is drawn again a bounded number of times. What was met
                stays so.
        """
        rng = default_rng(SeedSequence((self._seed, number)))
        for _ in range(ATTEMPTS):
            if len(elite) < 2 or mutant:
                subnet = self._mutant(elite, rng) if mutant and elite else sample_within_budget(self._space, rng)
                if not met(subnet):
                    return subnet
            elif (crossed := self._crossed(elite, rng, met)) is not None:
                return crossed
        return sample_within_budget(self._space, rng)

    def _mutant(self, elite: Sequence[Subnet], rng: Generator) -> Subnet:
        parent = elite[int(rng.integers(len(elite)))]
        return repair(self._space, mutate(self._space, parent, self._mutation, rng), rng)

    def _crossed(self, elite: Sequence[Subnet], rng: Generator, met: Callable[[Subnet], bool]) -> Subnet | None:
        """A child of two parents; None if it was met."""
        first, second = (elite[index] for index in rng.choice(len(elite), size=2, replace=False))
        heads = coins(self._space, rng)
        choices = np.where(heads, self._code(first), self._code(second)).tobytes()
        if choices in self._known:
            repair_order(self._space, rng)
            return None
        child = cross(self._space, first, second, heads)
        repaired = repair(self._space, child, rng)
        if not met(repaired):
            return repaired
        if repaired is child:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known.add(choices)
        return None

    def _code(self, parent: Subnet) -> NDArray[np.uint16]:
        code = self._coded.get(parent.digest)
        if code is None:
            if len(self._coded) >= REMEMBERED:
                self._coded.clear()
            code = np.array([indices[parent[key]] for key, indices in self._indices.items()], dtype=np.uint16)
            self._coded[parent.digest] = code
        return code
