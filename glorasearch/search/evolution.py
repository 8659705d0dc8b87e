"""The evolution of the GLoRA paper: children of the best subnets so far, from what the driver remembers.

Half of a generation are mutants (each gene resampled with some probability), half are crossover children (each gene
from either parent). Differences from the reference code: every candidate lies within the budget by bounded rejection
and then repair, where the reference may reject forever; parents are ranked over all generations so far, so the last one
counts; a duplicate child is drawn again a bounded number of times, then replaced by a fresh random subnet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray

from glorasearch.search.sampler import TrialSampler
from glorasearch.search.top_k import TopKByNumber, TopKFinished
from glorasearch.space import BoundSpace, Subnet, mutate, repair, sample_within_budget
from glorasearch.space.operators import crossover_by_mask, crossover_mask, repair_order

ATTEMPTS: Final = 10
"""Draws of a child that may all be duplicates; then a fresh random subnet is taken."""
REMEMBERED: Final = 10_000
"""Crossover children that are remembered as duplicates."""


class EvolutionSampler(TrialSampler):
    """Generates trials from the best k; each is stored with its subnet at once, those of a call in one transaction.

    - Generational: trial n belongs to generation n // population, so failed trials do not shift generations. The trials
      of generation 0 are random, but for those that the search starts from; the first half of a later one are mutants,
      the second half crossover children, of the best k of all generations before.
    - Steady: the first `population` trials likewise, and later ones as long as fewer than k distinct subnets have been
      evaluated are random. From then on even numbers are mutants, odd ones crossover children, of the best k of all
      finished trials.

    It keeps the parents' subnets, and only the digests of all others: trials do not get slower as history grows.
    """

    def __init__(self, *study: Any) -> None:
        super().__init__(*study)
        config, history = self._config, self._history
        self._children = ChildGenerator(self._genome.space, config.mutation, config.seed)
        self._top_k = (
            TopKFinished(config.fitness, config.parents, history)
            if config.steady
            else TopKByNumber(config.fitness, config.parents, history)
        )
        self._parent_subnets: dict[int, Subnet] = {}
        """By trial number."""

    def _sample(self, numbers: Sequence[int]) -> None:
        met = self._history.met
        parents = self._parents(numbers[0])
        known, subnets = list(parents), list(parents.values())
        trials = []
        for number in numbers:
            child = self._children.child(number, subnets, self._is_mutant(number), lambda subnet: subnet.digest in met)
            met.add(child.subnet.digest)
            trials.append(self._trial(number, child.subnet, parents=tuple(known[index] for index in child.parents)))
        self._store(trials)

    def _is_mutant(self, number: int) -> bool:
        if self._config.steady:
            return number % 2 == 0
        population = self._config.population
        return number % population < population // 2

    def _parents(self, number: int) -> dict[int, Subnet]:
        """The parents, by number, of a trial and of those that are sampled together with it, the best first."""
        top_k, population = self._top_k, self._config.population
        if isinstance(top_k, TopKByNumber):
            top_k.advance(number - number % population)
        elif number < population or not top_k.full:
            return {}
        known = self._parent_subnets
        self._parent_subnets = {number: known.get(number) or self._read(number) for number in top_k.numbers}
        return self._parent_subnets

    def _read(self, number: int) -> Subnet:
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        return self._genome.subnet(self._storage.get_trial(trial_id).params)


class Child(NamedTuple):
    """A subnet, and which of the parents it was bred from."""

    subnet: Subnet
    parents: tuple[int, ...] = ()
    """Positions among them; none if it is random."""


class ChildGenerator:
    """Makes the child of a trial: all draws come from a generator that is seeded by (seed, number).

    Args:
        space: with its budget.
        mutation: probability that a mutant resamples a gene.
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
        """Choices of crossover children that lie within the budget and are duplicates. A search that has converged
        draws hardly any others, ten in a row: no subnet is built for them, but the same random numbers are drawn."""

    def child(self, number: int, parents: Sequence[Subnet], mutant: bool, met: Callable[[Subnet], bool]) -> Child:
        """A subnet within the budget for trial `number`.

        Args:
            number: of the trial.
            parents: without any the child is random, and so is a crossover child of a single parent.
            mutant: a mutant of one parent rather than a crossover child of two.
            met: whether another trial has a subnet already; the child is then drawn again, a bounded number of times.
                What has been met stays so.
        """
        rng = default_rng(SeedSequence((self._seed, number)))
        for _ in range(ATTEMPTS):
            if len(parents) < 2 or mutant:
                child = self._mutant(parents, rng) if mutant and parents else self._random(rng)
                if not met(child.subnet):
                    return child
            elif (crossed := self._crossed(parents, rng, met)) is not None:
                return crossed
        return self._random(rng)

    def _random(self, rng: Generator) -> Child:
        return Child(sample_within_budget(self._space, rng))

    def _mutant(self, parents: Sequence[Subnet], rng: Generator) -> Child:
        position = int(rng.integers(len(parents)))
        mutant = mutate(self._space, parents[position], self._mutation, rng)
        return Child(repair(self._space, mutant, rng), (position,))

    def _crossed(self, parents: Sequence[Subnet], rng: Generator, met: Callable[[Subnet], bool]) -> Child | None:
        """A child of two parents; None if it is a duplicate."""
        positions = rng.choice(len(parents), size=2, replace=False).tolist()
        first, second = (parents[position] for position in positions)
        heads = crossover_mask(self._space, rng)
        choices = np.where(heads, self._code(first), self._code(second)).tobytes()
        if choices in self._known:
            repair_order(self._space, rng)
            return None
        child = crossover_by_mask(self._space, first, second, heads)
        repaired = repair(self._space, child, rng)
        if not met(repaired):
            return Child(repaired, tuple(positions))
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
