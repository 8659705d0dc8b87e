import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng

from glorasearch.db import TrialStorage
from glorasearch.search import EvolutionSampler, SearchConfig
from glorasearch.search.genome import Genome
from glorasearch.space import BoundSpace, LayerShape, SearchSpace, sample

optuna.logging.set_verbosity(optuna.logging.WARNING)


def bind(layers: int, budget: tuple[int, int | None]) -> BoundSpace:
    choices = {"A": ["lora:2", "constant", "none"], "B": ["lora:3", "vector", "none"], "D": ["vector", "none"]}
    space = SearchSpace.from_dict({"name": "small", "choices": choices})
    bound = space.bind([LayerShape(f"blocks.{index}.fc", 8, 12, bias=index % 2 == 0) for index in range(layers)])
    return BoundSpace("small", bound.layers, bound.genes, budget=budget)


@settings(max_examples=20, deadline=None)
@given(layers=st.integers(1, 5), seed=st.integers(0, 10**6), slack=st.integers(0, 30), tight=st.booleans())
def test_every_candidate_lies_within_the_budget_however_tight(layers, seed, slack, tight):
    wide = bind(layers, (0, None))
    smallest, _, _ = wide.parameter_range()
    target = smallest if tight else wide.parameters(sample(wide, default_rng(seed)))
    space = bind(layers, (max(0, target - slack), target + slack))
    genome = Genome(space)
    study = optuna.create_study(sampler=EvolutionSampler(space, population=6, parents=2, seed=seed))
    for number in range(15):
        trial = study.ask(genome.distributions)
        subnet = genome.subnet(trial.params)
        space.check(subnet)
        assert space.within_budget(space.parameters(subnet))
        study.tell(trial, float(hash(subnet.digest) % 100), state=optuna.trial.TrialState.COMPLETE)
        assert trial.number == number


def test_a_plain_optuna_sampler_that_depends_on_seed_and_number():
    space = bind(5, (0, 200))
    genome = Genome(space)

    def subnets(seed: int) -> list[str]:
        study = optuna.create_study(sampler=EvolutionSampler(space, population=5, parents=2, seed=seed))
        found = []
        for _ in range(20):
            trial = study.ask(genome.distributions)
            found.append(genome.subnet(trial.params).digest)
            study.tell(trial, int(found[-1][:4], 16))
        return found

    assert subnets(1) == subnets(1) != subnets(2)
    assert len(set(subnets(1))) == 20


def test_roles_of_a_generation(new_search, space_maker):
    """Mutants share most genes with one parent, crossover children take every gene from some pair of parents."""
    space = space_maker(layers=40, budget={})
    search = new_search(space)
    config = SearchConfig(trials=40, population=20, parents=3)
    search.run(config)
    genes = [trial[1] for trial in search.trials]
    ranked = sorted(range(20), key=lambda n: (search.trials[n][3]["cross_entropy"], n))[:3]
    for number in range(20, 30):
        changed = min(sum(genes[number][name] != genes[parent][name] for name in genes[number]) for parent in ranked)
        assert 0 < changed < 40, "about 0.2 of 120 genes are drawn anew, some to what they were"
    for number in range(30, 40):
        pairs = [(first, second) for first in ranked for second in ranked if first < second]
        assert any(
            all(genes[number][name] in (genes[first][name], genes[second][name]) for name in genes[number])
            for first, second in pairs
        )


def test_parents_are_the_best_of_all_generations_and_each_subnet_once(new_search):
    search = new_search()
    search.run(SearchConfig(trials=48, population=12, parents=4))
    study = optuna.load_study(
        study_name="study", storage=TrialStorage(search.database), sampler=optuna.samplers.RandomSampler()
    )
    sampler = EvolutionSampler(search.space, population=12, parents=4)
    for generation in (1, 2, 3, 4):
        parents = sampler.select_parent(study, generation)
        earlier = {
            trial[3]["subnet"]: (trial[3]["cross_entropy"], -trial[3]["accuracy"])
            for trial in search.trials[: 12 * generation]
        }
        best = sorted(earlier, key=earlier.__getitem__)[:4]
        assert [parent.user_attrs["subnet"] for parent in parents] == best
    assert max(parent.number for parent in sampler.select_parent(study, 4)) >= 36, "the last generation is ranked"


def test_evolution_beats_random_search_and_its_last_generation_counts(new_search):
    last, better = [], 0
    for seed in range(4):
        found = new_search().run(SearchConfig(trials=120, population=20, parents=5, seed=seed))
        drawn = new_search().run(SearchConfig(trials=120, sampler="random", batch=20, seed=seed))
        better += found.best.cross_entropy < drawn.best.cross_entropy
        last.append(found.best.number)
    assert better == 4
    assert max(last) >= 100


def test_children_met_before_are_replaced(space_maker, new_search):
    """Without mutation half of the children are copies of their parents: they become fresh random subnets."""
    space = space_maker(layers=6, choices={"B": ["lora:2", "vector", "none"]}, budget={})
    for mutation in (0, 0.2):
        outcome = new_search(space).run(SearchConfig(trials=60, population=10, parents=2, mutation=mutation))
        assert outcome.evaluated >= 56


def test_parameters_that_are_no_genes_are_refused():
    study = optuna.create_study(sampler=EvolutionSampler(bind(1, (0, None))))
    with pytest.raises(ValueError, match="'learning_rate' is not a gene of search space small"):
        study.ask().suggest_float("learning_rate", 0, 1)
