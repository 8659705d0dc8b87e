"""Gives trials their subnets: the driver's side of sampling."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime

import optuna
from numpy.random import SeedSequence, default_rng
from optuna.trial import FrozenTrial, TrialState

from glorasearch.db import TrialStorage
from glorasearch.errors import SearchError
from glorasearch.search.config import SearchConfig
from glorasearch.search.genome import Genome
from glorasearch.search.ledger import Ledger, RunningTrial
from glorasearch.search.record import PARAMETERS, SUBNET
from glorasearch.search.samplers import make_samplers
from glorasearch.space import Subnet, repair


class Asker(ABC):
    """Makes the trials of one study, each with its subnet from the start."""

    def __init__(
        self, genome: Genome, storage: TrialStorage, study_name: str, config: SearchConfig, ledger: Ledger
    ) -> None:
        self._genome = genome
        self._storage = storage
        self._study_name = study_name
        self._study_id = storage.get_study_id_from_name(study_name)
        self._config = config
        self._ledger = ledger

    def ask(self, numbers: Sequence[int]) -> None:
        """Bring trials to have their subnets, in the order of their numbers; the ledger is told.

        Trials that have theirs are left alone. Those of one call do not learn of each other.

        Raises:
            SearchError: if another process makes trials in the same study.
        """
        todo = [number for number in numbers if not self._ledger.sampled(number)]
        if todo:
            self._ask(todo)

    @abstractmethod
    def _ask(self, numbers: Sequence[int]) -> None:
        """The same for trials that lack theirs; at least one."""

    def _set(self, trial: FrozenTrial, subnet: Subnet, parameters: int) -> None:
        """Write the subnet of a trial that was created without."""
        attrs = {SUBNET: subnet.digest, PARAMETERS: parameters}
        params = self._genome.params(subnet)
        self._storage.set_trial_params(trial._trial_id, params, self._genome.distributions, attrs)
        self._ledger.unsampled.pop(trial.number, None)
        self._ledger.start(RunningTrial(trial.number, trial._trial_id, subnet, parameters))

    def _other_writer(self, number: int) -> SearchError:
        return SearchError(
            f"study {self._study_name!r}: trial {number} was to be made and is there already; another process "
            "writes to the study. Stop it, then start this search again"
        )


class SamplerAsker(Asker):
    """Asks an Optuna sampler for whole trials, as `Study.ask` would, all parameters at once."""

    def __init__(
        self, genome: Genome, storage: TrialStorage, study_name: str, config: SearchConfig, ledger: Ledger
    ) -> None:
        super().__init__(genome, storage, study_name, config, ledger)
        self._samplers = make_samplers(genome, config)

    def _ask(self, numbers: Sequence[int]) -> None:
        # A study caches the finished trials that samplers ask it for; they do not change while a batch is sampled.
        study = optuna.Study(self._study_name, self._storage, sampler=self._samplers(numbers[0]))
        for number in numbers:
            self._sample(study, self._ledger.unsampled.get(number) or self._create(number))

    def _create(self, number: int) -> FrozenTrial:
        ids = self._storage.create_trials(self._study_id, number, [{}], {}, [{}])
        if ids is None:
            raise self._other_writer(number)
        return FrozenTrial(number, TrialState.RUNNING, None, datetime.now(), None, {}, {}, {}, {}, {}, ids[0])

    def _sample(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Relative, then independent sampling; then repair to the budget, for samplers that know of none."""
        space, distributions = self._genome.space, self._genome.distributions
        sampler = self._samplers(trial.number)
        sampler.before_trial(study, trial)
        params = sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))
        for name, distribution in distributions.items():
            if name not in params:
                params[name] = sampler.sample_independent(study, trial, name, distribution)
        subnet = self._genome.subnet(params)
        parameters = space.parameters(subnet)
        if not space.within_budget(parameters):
            subnet = repair(space, subnet, default_rng(SeedSequence((self._config.seed, trial.number, 1))))
            parameters = space.parameters(subnet)
        self._set(trial, subnet, parameters)
