"""Gives trials their subnets: the driver's side of sampling, and its use of Optuna's samplers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from numpy.random import SeedSequence, default_rng
from optuna.trial import FrozenTrial, TrialState

from glorasearch.db import TrialStorage
from glorasearch.db.columns import local_now
from glorasearch.errors import SearchError
from glorasearch.search.config import SearchConfig
from glorasearch.search.history import TrialHistory
from glorasearch.search.objectives import Cost
from glorasearch.search.optuna_samplers import make_optuna_samplers
from glorasearch.search.study import Genome
from glorasearch.search.trials import RunningTrial
from glorasearch.space import Subnet, repair


class TrialSampler(ABC):
    """Samples the trials of one study and stores them with their subnets."""

    def __init__(
        self,
        genome: Genome,
        storage: TrialStorage,
        study_name: str,
        config: SearchConfig,
        history: TrialHistory,
        starts: Mapping[str, Subnet],
        costs: Mapping[Cost, Callable[[Subnet], float]],
    ) -> None:
        """`starts` are the first trials of the study, by name; `costs` are recorded of every trial."""
        self._costs = costs
        self._genome = genome
        self._storage = storage
        self._study_name = study_name
        self._study_id = storage.get_study_id_from_name(study_name)
        self._config = config
        self._history = history
        self._starts = tuple(starts.items())

    def sample(self, numbers: Sequence[int]) -> None:
        """Sample the trials of these ascending numbers that have no subnet yet; they are then running in the history.

        The trials of one call do not learn from each other.

        Raises:
            SearchError: if another process makes trials in the same study.
        """
        todo = [number for number in numbers if not self._history.sampled(number)]
        given = [number for number in todo if number < len(self._starts)]
        if given:
            self._store(
                [self._trial(number, subnet, start=name) for number in given for name, subnet in [self._starts[number]]]
            )
        if todo[len(given) :]:
            self._sample(todo[len(given) :])

    @abstractmethod
    def _sample(self, numbers: Sequence[int]) -> None:
        """Sample these trials, at least one; none of them has a subnet."""

    def _trial(self, number: int, subnet: Subnet, **origin: Any) -> RunningTrial:
        """A trial with its subnet."""
        costs = {name: cost(subnet) for name, cost in self._costs.items()}
        return RunningTrial(number, subnet, self._genome.space.parameters(subnet), costs=costs, **origin)

    def _store(self, trials: Sequence[RunningTrial]) -> None:
        """Store trials with their subnets; those that do not exist yet are created in one transaction."""
        storage, genome, history = self._storage, self._genome, self._history
        new: list[RunningTrial] = []
        for trial in trials:
            created = history.unsampled.get(trial.number)
            if created is None:
                new.append(trial)
                continue
            trial.trial_id = created._trial_id
            storage.set_trial_params(trial.trial_id, genome.params(trial.subnet), genome.distributions, trial.attrs)
            history.start(trial)
        if not new:
            return
        params = [genome.params(trial.subnet) for trial in new]
        attrs = [trial.attrs for trial in new]
        ids = storage.create_trials(self._study_id, new[0].number, params, genome.distributions, attrs)
        if ids is None:
            raise self._other_writer(new[0].number)
        for trial, trial_id in zip(new, ids, strict=True):
            trial.trial_id = trial_id
            history.start(trial)

    def _other_writer(self, number: int) -> SearchError:
        return SearchError(
            f"study {self._study_name!r}: trial {number}, to be made next, exists already; another process writes to "
            "the study. Stop it, then start this search again"
        )


class OptunaTrialSampler(TrialSampler):
    """Asks an Optuna sampler for whole trials, as `Study.ask` would, all parameters at once."""

    def __init__(self, *study: Any) -> None:
        super().__init__(*study)
        self._samplers = make_optuna_samplers(self._genome, self._config)

    def _sample(self, numbers: Sequence[int]) -> None:
        # A study caches the finished trials that samplers ask it for; they do not change while a batch is sampled.
        study = optuna.Study(self._study_name, self._storage, sampler=self._samplers(numbers[0]))
        for number in numbers:
            trial = self._history.unsampled.get(number) or self._create(number)
            self._store([self._trial(number, self._subnet(study, trial))])

    def _create(self, number: int) -> FrozenTrial:
        """Create a trial without parameters: samplers store their notes in it while they sample."""
        ids = self._storage.create_trials(self._study_id, number, [{}], {}, [{}])
        if ids is None:
            raise self._other_writer(number)
        trial = FrozenTrial(number, TrialState.RUNNING, None, local_now(), None, {}, {}, {}, {}, {}, ids[0])
        self._history.unsampled[number] = trial
        return trial

    def _subnet(self, study: optuna.Study, trial: FrozenTrial) -> Subnet:
        """Relative, then independent sampling; then repair, as these samplers know of no budget."""
        space, sampler = self._genome.space, self._samplers(trial.number)
        sampler.before_trial(study, trial)
        params = sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))
        for name, distribution in self._genome.distributions.items():
            if name not in params:
                params[name] = sampler.sample_independent(study, trial, name, distribution)
        subnet = self._genome.subnet(params)
        if space.fits(subnet):
            return subnet
        return repair(space, subnet, default_rng(SeedSequence((self._config.seed, trial.number, 1))))
