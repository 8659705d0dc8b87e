"""Genetic operators: within the budget, always; and repair always ends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from glorasearch.choices import CHOICES
from glorasearch.errors import SearchSpaceError
from glorasearch.space import (
    BoundSpace,
    Gene,
    LayerShape,
    SearchSpace,
    Subnet,
    crossover,
    known_layers,
    mutate,
    repair,
    sample,
    sample_within_budget,
)

SEEDS = st.integers(0, 2**32 - 1)


def one_by_one(genes: list[Gene], rng: np.random.Generator) -> list[str]:
    """Choices drawn one after the other, as recorded runs have drawn them."""
    return [gene.choices[int(rng.integers(len(gene.choices)))] for gene in genes]


@st.composite
def spaces(draw: st.DrawFn) -> BoundSpace:
    """Small spaces with any budget; not all of them feasible."""
    layers = [
        LayerShape(f"fc{index}", draw(st.integers(1, 9)), draw(st.integers(1, 9)))
        for index in range(draw(st.integers(1, 3)))
    ]
    genes = []
    for layer in layers:
        for tensor in draw(st.sets(st.sampled_from("ABCDE"), min_size=1)):
            texts = [
                str(made((number,) * len(made.arguments)))
                for made in CHOICES.values()
                if tensor in made.tensors
                for number in ((1, 2) if made.arguments else (0,))
            ]
            share = draw(st.sampled_from(["", "left", "right"])) if tensor == "A" else ""
            texts = draw(st.permutations(texts))[: draw(st.integers(1, 4))]
            genes.append(Gene(layer.name, tensor, tuple(texts), share))
    least = draw(st.integers(0, 80))
    most = draw(st.one_of(st.none(), st.integers(least, least + draw(st.sampled_from([0, 3, 80])))))
    return BoundSpace("drawn", layers, genes, budget=(least, most))


def feasible(space: BoundSpace) -> bool:
    return space.reachable.any_within(*space.budget)


def within(space: BoundSpace, subnet: Subnet) -> bool:
    space.check(subnet)
    return space.within_budget(space.parameters(subnet))


@given(spaces(), SEEDS)
@settings(max_examples=120, deadline=None)
def test_samples_and_repaired_children_lie_within_the_budget(space: BoundSpace, seed: int) -> None:
    assume(feasible(space))
    rng = np.random.default_rng(seed)
    first, second = (sample_within_budget(space, rng, attempts=2) for _ in range(2))
    mutant = repair(space, mutate(space, first, 0.5, rng), rng)
    child = repair(space, crossover(space, first, second, rng), rng)
    anything = repair(space, sample(space, rng), rng)
    for subnet in (first, second, mutant, child, anything):
        assert within(space, subnet)


@given(spaces(), SEEDS)
@settings(max_examples=40, deadline=None)
def test_an_infeasible_budget_is_refused_with_the_feasible_range(space: BoundSpace, seed: int) -> None:
    assume(not feasible(space))
    rng = np.random.default_rng(seed)
    smallest, _, largest = space.parameter_range()
    for attempt in (
        space.check_budget,
        lambda: sample_within_budget(space, rng, attempts=2),
        lambda: repair(space, space.smallest(), rng),
        lambda: repair(space, space.largest(), rng),
    ):
        with pytest.raises(SearchSpaceError, match=f"reaches from {smallest:,} to {largest:,}, nearest to the budget"):
            attempt()


@given(spaces(), SEEDS)
@settings(max_examples=40, deadline=None)
def test_what_lies_within_the_budget_is_not_repaired(space: BoundSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    subnet = sample(space, rng)
    assume(within(space, subnet))
    assert repair(space, subnet, rng) == subnet


@given(spaces(), SEEDS)
@settings(max_examples=40, deadline=None)
def test_operators_are_functions_of_the_generator(space: BoundSpace, seed: int) -> None:
    assume(feasible(space))

    def draw() -> list[Subnet]:
        rng = np.random.default_rng(seed)
        first = sample_within_budget(space, rng)
        return [first, mutate(space, first, 0.5, rng), crossover(space, first, space.largest(), rng)]

    assert draw() == draw()


@given(spaces(), SEEDS)
@settings(max_examples=40, deadline=None)
def test_mutation_and_crossover_take_only_what_they_may(space: BoundSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = sample(space, rng), sample(space, rng)
    assert mutate(space, first, 0.0, rng) == first
    space.check(mutate(space, first, 1.0, rng))
    child = crossover(space, first, second, rng)
    assert all(choice in (first[gene], second[gene]) for gene, choice in child.items())


BOUND = SearchSpace.load("glora_medium").bind(known_layers("vit_base_patch16_224") or [])
SMALLEST, MEAN, LARGEST = BOUND.parameter_range()


@pytest.mark.parametrize(
    "budget",
    [
        (0, 0),
        (1, 1),
        (7, 7),
        (0, 1_000),
        (100_000, 100_000),
        (123_648, 123_648),
        (LARGEST, LARGEST),
        (LARGEST, None),
        (int(MEAN), int(MEAN)),
        (LARGEST - 5_000, LARGEST),
    ],
)
def test_a_tight_budget_of_a_real_space_is_met(budget: tuple[int, int | None]) -> None:
    space = BoundSpace(BOUND.name, BOUND.layers, BOUND.genes, budget=budget)
    rng = np.random.default_rng(5)
    for start in (space.smallest(), space.largest(), sample(space, rng)):
        assert within(space, repair(space, start, rng))


def test_budgets_between_what_can_be_reached_are_refused() -> None:
    space = BoundSpace(BOUND.name, BOUND.layers, BOUND.genes, budget=(LARGEST - 1, LARGEST - 1))
    assert not feasible(space)
    with pytest.raises(SearchSpaceError, match=f"nearest to the budget are .* and {LARGEST:,}"):
        sample_within_budget(space, np.random.default_rng(0))


def test_genes_that_a_subnet_leaves_out_are_repaired_too() -> None:
    space = BoundSpace(BOUND.name, BOUND.layers, BOUND.genes, budget=(100_000, 200_000))
    assert within(space, repair(space, Subnet({}), np.random.default_rng(0)))


def test_a_foreign_subnet_is_not_repaired() -> None:
    with pytest.raises(SearchSpaceError, match=r"no gene elsewhere\.B"):
        repair(BOUND, Subnet({("elsewhere", "B"): "vector"}), np.random.default_rng(0))


def test_draws_are_uniform() -> None:
    gene = BOUND.genes[0]
    rng = np.random.default_rng(0)
    drawn = [sample(BOUND, rng)[gene.key] for _ in range(1_000)]
    for choice in gene.choices:
        assert drawn.count(choice) == pytest.approx(1_000 / len(gene.choices), rel=0.25)


@settings(deadline=None)
@given(
    seed=SEEDS, before=st.integers(0, 3), probability=st.floats(0, 1), name=st.sampled_from(["glora_medium", "lean"])
)
def test_all_genes_at_once_are_drawn_as_one_after_the_other(
    seed: int, before: int, probability: float, name: str
) -> None:
    """The same choices, and the generator is left in the same state, so that what follows is the same, too."""
    space = SearchSpace.load(name).bind(known_layers("vit_tiny_patch16_224"))
    one, other = (np.random.default_rng(seed) for _ in range(2))
    for rng in (one, other):
        rng.integers(7, size=before)  # half of a word may be left over
    expected = space.subnet(one_by_one(list(space.genes), one))
    assert sample(space, other) == expected
    assert one.bit_generator.state == other.bit_generator.state

    hits = (one.random(len(space.genes)) < probability).tolist()
    genes = [gene for gene, hit in zip(space.genes, hits, strict=True) if hit]
    child = expected.replace({gene.key: choice for gene, choice in zip(genes, one_by_one(genes, one), strict=True)})
    assert mutate(space, expected, probability, other) == child
    assert one.bit_generator.state == other.bit_generator.state
