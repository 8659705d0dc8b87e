"""How a child is bred: the operators of the GLoRA paper, within the budget, and not what was met before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from numpy.random import Generator, SeedSequence, default_rng

from glorasearch.space import BoundSpace, Subnet, crossover, mutate, repair, sample_within_budget

ATTEMPTS: Final = 10
"""Draws of a child until one was not met before; then a fresh random subnet is taken."""


@dataclass(frozen=True, slots=True)
class Breeding:
    """Makes the child of a trial: all draws come from a generator that is seeded by (seed, number)."""

    space: BoundSpace
    mutation: float
    """Probability that a mutant draws a gene anew."""
    seed: int

    def child(self, number: int, elite: Sequence[Subnet], mutant: bool, met: Callable[[Subnet], bool]) -> Subnet:
        """A subnet within the budget for trial `number`.

        Args:
            number: of the trial.
            elite: the parents; without any the child is random, and so is a crossover child of one parent.
            mutant: a mutant of one parent rather than a crossover child of two.
            met: whether another trial has a subnet already; it is drawn again a bounded number of times.
        """
        rng = default_rng(SeedSequence((self.seed, number)))
        for _ in range(ATTEMPTS):
            subnet = self._draw(elite, mutant, rng)
            if not met(subnet):
                return subnet
        return sample_within_budget(self.space, rng)

    def _draw(self, elite: Sequence[Subnet], mutant: bool, rng: Generator) -> Subnet:
        if not elite:
            return sample_within_budget(self.space, rng)
        if mutant:
            parent = elite[int(rng.integers(len(elite)))]
            return repair(self.space, mutate(self.space, parent, self.mutation, rng), rng)
        if len(elite) == 1:
            return sample_within_budget(self.space, rng)
        first, second = rng.choice(len(elite), size=2, replace=False)
        return repair(self.space, crossover(self.space, elite[first], elite[second], rng), rng)
