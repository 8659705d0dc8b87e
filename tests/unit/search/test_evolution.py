"""The driver's evolution: budget, roles of a generation, parents, and children that were met before."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.random import default_rng

from glorasearch.search import SearchConfig
from glorasearch.search.evolution import ChildGenerator
from glorasearch.space import FITNESSES, BoundSpace, LayerShape, SearchSpace, Subnet, sample


def bind(layers: int, budget: tuple[int, int | None]) -> BoundSpace:
    choices = {"A": ["lora:2", "constant", "none"], "B": ["lora:3", "vector", "none"], "D": ["vector", "none"]}
    space = SearchSpace.from_dict({"name": "small", "choices": choices})
    bound = space.bind([LayerShape(f"blocks.{index}.fc", 8, 12, bias=index % 2 == 0) for index in range(layers)])
    return BoundSpace("small", bound.layers, bound.genes, budget=budget)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layers=st.integers(1, 5), seed=st.integers(0, 10**6), slack=st.integers(0, 30), tight=st.booleans())
def test_every_candidate_lies_within_the_budget_however_tight(new_search, layers, seed, slack, tight):
    wide = bind(layers, (0, None))
    smallest, _, _ = wide.parameter_range()
    target = smallest if tight else wide.parameters(sample(wide, default_rng(seed)))
    space = bind(layers, (max(0, target - slack), target + slack))
    search = new_search(space)
    search.run(SearchConfig(trials=15, population=6, parents=2, seed=seed))
    assert [trial[0] for trial in search.trials] == list(range(15))
    for _, params, _, attrs, _ in search.trials:
        subnet = space.subnet(params.get(gene.name, gene.choices[0]) for gene in space.genes)
        space.check(subnet)
        assert subnet.digest == attrs["subnet"]
        assert space.within_budget(space.parameters(subnet))


def test_trials_depend_on_the_seed(new_search):
    def subnets(seed: int) -> list[str]:
        search = new_search(bind(5, (0, 200)))
        search.run(SearchConfig(trials=20, population=5, parents=2, seed=seed))
        return [trial[3]["subnet"] for trial in search.trials]

    assert subnets(1) == subnets(1) != subnets(2)
    assert len(set(subnets(1))) == 20


def test_a_child_depends_on_seed_and_number_and_on_nothing_that_was_drawn_before():
    space = bind(5, (0, 200))
    parents = [sample(space, default_rng(seed)) for seed in range(3)]

    def child(generator: ChildGenerator, number: int, mutant: bool) -> Subnet:
        return generator.child(number, parents, mutant, lambda subnet: False).subnet

    for mutant in (True, False):
        one, other = ChildGenerator(space, 0.2, seed=1), ChildGenerator(space, 0.2, seed=1)
        children = [child(one, number, mutant) for number in range(20)]
        assert [child(other, number, mutant) for number in reversed(range(20))] == children[::-1]
        assert [child(ChildGenerator(space, 0.2, seed=2), number, mutant) for number in range(20)] != children


def test_roles_of_a_generation(new_search, space_maker):
    """Mutants share most genes with one parent, crossover children take every gene from some pair of parents."""
    space = space_maker(layers=40, budget={})
    search = new_search(space)
    config = SearchConfig(trials=40, population=20, parents=3)
    search.run(config)
    genes = [trial[1] for trial in search.trials]
    ranked = sorted(range(20), key=lambda n: (search.trials[n][3]["tempered"], n))[:3]
    for number in range(20, 30):
        changed = min(sum(genes[number][name] != genes[parent][name] for name in genes[number]) for parent in ranked)
        assert 0 < changed < 40, "about 0.2 of 120 genes are drawn anew, some to what they were"
    for number in range(30, 40):
        pairs = [(first, second) for first in ranked for second in ranked if first < second]
        assert any(
            all(genes[number][name] in (genes[first][name], genes[second][name]) for name in genes[number])
            for first, second in pairs
        )


@pytest.mark.parametrize("fitness", FITNESSES)
def test_parents_are_the_best_of_all_generations_and_each_subnet_once(new_search, space_maker, fitness):
    """Seen in what the generator of children is given; the trials are those that it makes of it."""
    search = new_search(space_maker(layers=3, choices={"B": ["lora:2", "vector", "none"]}, budget={}))
    config = SearchConfig(trials=72, population=12, parents=4, fitness=fitness)
    outcome = search.run(config)
    assert outcome.reused, "a subnet that was met again is a parent once"
    trials, last = search.trials, 0
    subnets = {trial[3]["subnet"]: search.space.subnet(trial[1].values()) for trial in trials}
    sign, tie = (-1, "cross_entropy") if fitness == "accuracy" else (1, "accuracy")
    generator = ChildGenerator(search.space, config.mutation, config.seed)
    for generation in range(1, 6):
        earlier = [trial for trial in trials[: 12 * generation] if fitness in trial[3]]
        earlier.sort(key=lambda trial: (sign * trial[3][fitness], -sign * trial[3][tie], trial[0]))
        first = {trial[3]["subnet"]: trial[0] for trial in reversed(earlier)}
        parents = list(dict.fromkeys(trial[3]["subnet"] for trial in earlier))[:4]
        last = max(last, *(first[digest] // 12 == generation - 1 for digest in parents))
        for number in range(12 * generation, 12 * generation + 12):
            met = dict.fromkeys(subnets[trial[3]["subnet"]] for trial in trials[:number])
            child = generator.child(number, [subnets[digest] for digest in parents], number % 12 < 6, met.__contains__)
            assert child.subnet.digest == trials[number][3]["subnet"]
            bred = [first[parents[position]] for position in child.parents]
            assert trials[number][3].get("parents", []) == bred
    assert last, "the generation just before is ranked, too"


def test_evolution_beats_random_search_and_its_last_generation_counts(new_search):
    last, better = [], 0
    for seed in range(4):
        found = new_search().run(SearchConfig(trials=120, population=20, parents=5, seed=seed))
        drawn = new_search().run(SearchConfig(trials=120, sampler="random", batch=20, seed=seed))
        better += found.best.score.tempered < drawn.best.score.tempered
        last.append(found.best.number)
    assert better == 4
    assert max(last) >= 100


def test_children_met_before_are_replaced(space_maker, new_search):
    """Without mutation half of the children are copies of their parents: they become fresh random subnets."""
    space = space_maker(layers=6, choices={"B": ["lora:2", "vector", "none"]}, budget={})
    for mutation in (0, 0.2):
        outcome = new_search(space).run(SearchConfig(trials=60, population=10, parents=2, mutation=mutation))
        assert outcome.evaluated >= 56
