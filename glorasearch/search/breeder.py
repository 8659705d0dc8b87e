"""Evolution from what the driver remembers: the trials of `EvolutionSampler`, at a cost that history does not raise."""

from __future__ import annotations

from collections.abc import Sequence

from glorasearch.db import TrialStorage
from glorasearch.search.asker import Asker
from glorasearch.search.breeding import Breeding
from glorasearch.search.config import SearchConfig
from glorasearch.search.elite import EliteByNumber, EliteOfFinished
from glorasearch.search.genome import Genome
from glorasearch.search.ledger import Ledger, RunningTrial
from glorasearch.search.record import PARAMETERS, SUBNET
from glorasearch.space import Subnet


class Breeder(Asker):
    """Breeds trials from the best k; each is stored with its subnet at once, those of a batch in one transaction.

    - Generational: the trials of generation 0 are random; the first half of a later one are mutants, the second half
      crossover children, of the best k of all generations before.
    - Steady: the first `population` trials are random, and later ones as long as fewer than k distinct subnets have
      been evaluated. Then even numbers are mutants, odd ones crossover children, of the best k of all that has finished
      by then.

    It keeps the elite's subnets, and of all other trials their digests.
    """

    def __init__(
        self, genome: Genome, storage: TrialStorage, study_name: str, config: SearchConfig, ledger: Ledger
    ) -> None:
        super().__init__(genome, storage, study_name, config, ledger)
        self._breeding = Breeding(genome.space, config.mutation, config.seed)
        self._elite = (
            EliteOfFinished(config.fitness, config.parents, ledger)
            if config.steady
            else EliteByNumber(config.fitness, config.parents, ledger)
        )
        self._subnets: dict[int, Subnet] = {}
        """Of the elite, by trial number."""

    def _ask(self, numbers: Sequence[int]) -> None:
        ledger, space = self._ledger, self._genome.space
        parents = self._parents(numbers[0])
        children: list[tuple[int, Subnet, int]] = []
        for number in numbers:
            subnet = self._breeding.child(
                number, parents, self._mutant(number), lambda child: child.digest in ledger.met
            )
            ledger.met.add(subnet.digest)
            children.append((number, subnet, space.parameters(subnet)))
        while children and (trial := ledger.unsampled.get(children[0][0])) is not None:
            self._set(trial, *children.pop(0)[1:])
        if children:
            self._store(children)

    def _store(self, children: Sequence[tuple[int, Subnet, int]]) -> None:
        ids = self._storage.create_trials(
            self._study_id,
            children[0][0],
            [self._genome.params(subnet) for _, subnet, _ in children],
            self._genome.distributions,
            [{SUBNET: subnet.digest, PARAMETERS: parameters} for _, subnet, parameters in children],
        )
        if ids is None:
            raise self._other_writer(children[0][0])
        for trial_id, (number, subnet, parameters) in zip(ids, children, strict=True):
            self._ledger.start(RunningTrial(number, trial_id, subnet, parameters))

    def _mutant(self, number: int) -> bool:
        if self._config.steady:
            return number % 2 == 0
        population = self._config.population
        return number % population < population // 2

    def _parents(self, number: int) -> list[Subnet]:
        """The subnets of the elite, for a trial and those that are sampled together with it."""
        elite, population = self._elite, self._config.population
        if isinstance(elite, EliteByNumber):
            elite.reach(number - number % population)
        elif number < population or not elite.full:
            return []
        self._subnets = {number: self._subnets.get(number) or self._stored(number) for number in elite.numbers}
        return list(self._subnets.values())

    def _stored(self, number: int) -> Subnet:
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        return self._genome.subnet(self._storage.get_trial(trial_id).params)
