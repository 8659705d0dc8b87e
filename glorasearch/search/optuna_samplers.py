"""Optuna's samplers, made so that a trial's draws depend only on the seed, its number and the trials before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from numpy.random import SeedSequence
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from glorasearch.search.config import SearchConfig
from glorasearch.search.study import Genome

SamplerFor = Callable[[int], BaseSampler]
"""Trial number → the sampler of that trial."""


def trial_seed(config: SearchConfig, number: int) -> int:
    """The 32-bit seed of a trial's own generator."""
    return int(SeedSequence((config.seed, number)).generate_state(1)[0])


class KnownSpaceTPESampler(TPESampler):
    """Optuna's TPE, given the search space, which it would otherwise infer from all trials, for every trial."""

    def __init__(self, genome: Genome, seed: int) -> None:
        super().__init__(seed=seed, multivariate=True)
        self._genome = genome

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole search space."""
        return self._genome.distributions


class GenerationalNSGAIISampler(NSGAIISampler):
    """Optuna's NSGA-II with generations by trial number, so that they do not depend on failures and restarts.

    `parents` caches the parents of each generation; the samplers of all trials share it.
    """

    def __init__(self, genome: Genome, population: int, seed: int, parents: dict[int, list[FrozenTrial]]) -> None:
        super().__init__(population_size=population, seed=seed)
        self._population = population
        self._genome = genome
        self._parents = parents

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole search space."""
        return self._genome.distributions

    def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:
        """The generation of a trial, from its number."""
        return trial.number // self._population

    def get_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        """The completed trials of a generation."""
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [trial for trial in trials if trial.number // self._population == generation]

    def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        """The parents of a generation by trial number: Optuna's order differs between the first and later calls."""
        if generation not in self._parents:
            population = super().get_parent_population(study, generation)
            self._parents[generation] = sorted(population, key=lambda trial: trial.number)
        return self._parents[generation]


def _random(genome: Genome, config: SearchConfig) -> SamplerFor:
    return lambda number: RandomSampler(seed=trial_seed(config, number))


def _tpe(genome: Genome, config: SearchConfig) -> SamplerFor:
    return lambda number: KnownSpaceTPESampler(genome, trial_seed(config, number))


def _nsga2(genome: Genome, config: SearchConfig) -> SamplerFor:
    parents: dict[int, list[FrozenTrial]] = {}
    return lambda number: GenerationalNSGAIISampler(genome, config.population, trial_seed(config, number), parents)


_MAKERS: Final[dict[str, Callable[[Genome, SearchConfig], SamplerFor]]] = {
    "random": _random,
    "tpe": _tpe,
    "nsga2": _nsga2,
}


def make_optuna_samplers(genome: Genome, config: SearchConfig) -> SamplerFor:
    """The sampler of one trial, created for each: its state would not survive a restart."""
    return _MAKERS[config.sampler](genome, config)
