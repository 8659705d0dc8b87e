"""Asks a sampler for whole trials and stores each in one statement."""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from numpy.random import SeedSequence, default_rng
from optuna.trial import FrozenTrial

from glorasearch.db import TrialStorage
from glorasearch.errors import SearchError
from glorasearch.search.config import SearchConfig
from glorasearch.search.genome import Genome
from glorasearch.search.ledger import Ledger, RunningTrial
from glorasearch.search.record import PARAMETERS, SUBNET
from glorasearch.search.samplers import make_samplers
from glorasearch.space import repair


class Asker:
    """Makes the trials of a batch and gives each its subnet, as `Study.ask` would, all parameters at once."""

    def __init__(self, genome: Genome, storage: TrialStorage, study_name: str, config: SearchConfig) -> None:
        self._genome = genome
        self._storage = storage
        self._study_name = study_name
        self._study_id = storage.get_study_id_from_name(study_name)
        self._seed = config.seed
        self._samplers = make_samplers(genome, config)

    def ask(self, numbers: Sequence[int], ledger: Ledger) -> None:
        """Bring every trial of a batch to have its subnet, in the order of their numbers; the ledger is told.

        Trials that have theirs are left alone.

        Raises:
            SearchError: if another process makes trials in the same study.
        """
        sampled = ledger.records.keys() | ledger.failures.keys() | ledger.running.keys()
        todo = [number for number in numbers if number not in sampled]
        if not todo:
            return
        # A study caches the finished trials that samplers ask it for; they do not change while a batch is sampled.
        study = optuna.Study(self._study_name, self._storage, sampler=self._samplers(todo[0]))
        for number in todo:
            trial = ledger.unsampled.pop(number, None) or self._create(number)
            ledger.running[number] = self._sample(study, trial)

    def _create(self, number: int) -> FrozenTrial:
        trial = self._storage.get_trial(self._storage.create_new_trial(self._study_id))
        if trial.number != number:
            raise SearchError(
                f"study {self._study_name!r}: expected to make trial {number}, got {trial.number}; another process "
                "writes to the study. Stop it, then start this search again"
            )
        return trial

    def _sample(self, study: optuna.Study, trial: FrozenTrial) -> RunningTrial:
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
            subnet = repair(space, subnet, default_rng(SeedSequence((self._seed, trial.number, 1))))
            parameters = space.parameters(subnet)
        attrs = {SUBNET: subnet.digest, PARAMETERS: parameters}
        self._storage.set_trial_params(trial._trial_id, self._genome.params(subnet), distributions, attrs)
        return RunningTrial(trial.number, trial._trial_id, subnet, parameters)
