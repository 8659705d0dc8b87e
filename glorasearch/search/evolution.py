"""The evolution of the GLoRA paper as an Optuna sampler, with its faults mended.

Population 50, parents the 10 best of everything evaluated so far; half of a generation are mutants (each gene drawn
anew with probability 0.2), half are crossover children (each gene from either parent). Deviations from the reference
code: every candidate lies within the budget by bounded rejection and then repair, where the reference rejects without
end; parents are ranked over all finished generations, so the last one counts; a child that was met before is drawn
again a bounded number of times, then replaced by a fresh random subnet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseGASampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from glorasearch.search.breeding import Breeding
from glorasearch.search.genome import Genome
from glorasearch.space import BoundSpace, Subnet


class EvolutionSampler(BaseGASampler):
    """Samples the trials of one study; a trial's draws depend on (`seed`, its number) and on what came before it.

    Trial `n` belongs to generation `n // population`, so failed trials do not shift generations. Trials of generation
    0 are random within the budget. In the later ones the first half are mutants, the second half crossover children,
    both of `select_parent`. A whole generation is meant to be sampled before any of it is told: then its trials do not
    depend on the order in which evaluations end. `SearchDriver` makes the same trials, from what it remembers itself
    (`Breeder`) rather than from all trials of the study.

    Ranks by the objective of the study, and breaks ties by the other of the user attributes `accuracy` and
    `cross_entropy`, where trials have them. Not thread-safe.
    """

    def __init__(
        self, space: BoundSpace, *, population: int = 50, parents: int = 10, mutation: float = 0.2, seed: int = 0
    ) -> None:
        super().__init__(population)
        self._population = population
        self._parents = parents
        self._breeding = Breeding(space, mutation, seed)
        self._space = space
        self._genome = Genome(space)
        self._generation = -1
        self._elite: list[Subnet] = []
        self._met: dict[str, int] = {}
        self._seen: set[int] = set()

    def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:
        """The generation of a trial, from its number: no write, and the same after a failure or a restart."""
        return trial.number // self._population

    def get_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        """The completed trials of a generation."""
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [trial for trial in trials if trial.number // self._population == generation]

    def select_parent(self, study: Study, generation: int) -> list[FrozenTrial]:
        """The best trials of all generations before this one, each subnet once, the best first."""
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        earlier = [trial for trial in trials if trial.number < generation * self._population]
        distinct: dict[tuple[str, ...], FrozenTrial] = {}
        for trial in sorted(earlier, key=self._order(study)):
            distinct.setdefault(self._genome.choices(trial.params), trial)
        return list(distinct.values())[: self._parents]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole search space: a subnet is sampled at once."""
        return self._genome.distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The parameters of the trial's subnet, which lies within the budget."""
        self._look_back(study, trial)
        number = trial.number

        def met(subnet: Subnet) -> bool:
            return self._met.get(subnet.digest, number) != number

        mutant = number % self._population < self._population // 2
        subnet = self._breeding.child(number, self._elite, mutant, met)
        self._met.setdefault(subnet.digest, number)
        return self._genome.params(subnet)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Not used for the genes of the space, which are sampled together.

        Raises:
            ValueError: for a parameter that is not a gene of the space.
        """
        raise ValueError(
            f"parameter {param_name!r} is not a gene of search space {self._space.name}; EvolutionSampler samples the "
            "genes of its space and nothing else"
        )

    def _look_back(self, study: Study, trial: FrozenTrial) -> None:
        """Once a generation (and after a restart): who are the parents, and which subnets were met."""
        generation = self.get_trial_generation(study, trial)
        if generation == self._generation:
            return
        # Optuna keeps the parents as a set; ranked again, they are in the same order in every process.
        parents = sorted(self.get_parent_population(study, generation), key=self._order(study))
        self._elite = [self._genome.subnet(parent.params) for parent in parents]
        for earlier in study.get_trials(deepcopy=False):
            sampled = len(earlier.params) == len(self._genome.distributions)
            if earlier.number < trial.number and earlier.number not in self._seen and sampled:
                self._seen.add(earlier.number)
                self._met.setdefault(self._genome.subnet(earlier.params).digest, earlier.number)
        self._generation = generation

    def _order(self, study: Study) -> Callable[[FrozenTrial], tuple[float, float, int]]:
        maximise = study.direction == StudyDirection.MAXIMIZE

        def key(trial: FrozenTrial) -> tuple[float, float, int]:
            objective = trial.value if trial.value is not None else float("nan")
            if maximise:
                return -objective, trial.user_attrs.get("cross_entropy", 0.0), trial.number
            return objective, -trial.user_attrs.get("accuracy", 0.0), trial.number

        return key
