"""Points: a trial of a finished search, refitted, tested and exported as a run of its own.

Rate, supernet, search and baselines are taken over from the run that searched. Needs no torch until a stage runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from glorasearch.errors import ConfigError, InputError
from glorasearch.runs.config import RunConfig, differing_parts
from glorasearch.runs.earlier_runs import trial_subnet
from glorasearch.runs.remembered import given_config
from glorasearch.runs.results import BaselineResult, PointSummary, Results, SearchResult, TrainResult
from glorasearch.runs.workspace import Workspace
from glorasearch.space import CLASS_METRICS, BoundSpace, Fitness, Subnet, higher_is_better

if TYPE_CHECKING:
    from glorasearch.db import TrialStorage
    from glorasearch.search import TrialRecord

SAME: Final = ("seed", "backbone", "data", "train")
"""Parts of a run file that the supernet's weights and the search depend on, beside the space."""
SCORING: Final = ("eval_batch_size", "precision")
"""What of the section `search` a candidate's score depends on."""
OWN: Final = ("refit", "export", "report", "device", "compile")
"""Parts of a run file in which a point may differ from the run that searched."""


@dataclass(frozen=True)
class Searched:
    """A run whose search has finished, to take points from."""

    workspace: Workspace
    name: str
    config: Mapping[str, Any]
    """As the database has it."""
    results: Results

    @classmethod
    def find(cls, workspace: Workspace, name: str) -> Searched:
        """The run of that name.

        Raises:
            InputError: if there is none, its search has not finished, or it has no trials to choose from.
        """
        (record,) = workspace.require_runs([name])
        earlier = (record.config.get("point") or {}).get("run")
        if earlier is not None:
            raise InputError(f"run {name!r} is itself a point of run {earlier!r}; its trials are those of {earlier!r}")
        found = cls(workspace, name, record.config, Results(record.stages, name))
        if found.results.search is None or found.results.train is None:
            raise InputError(f"the search of run {name!r} has not finished; `glorasearch search RUN_FILE` finishes it")
        if found.train.fixed_method:
            raise InputError(f"run {name!r} is a fixed method: its space has one subnet, so it has no other points")
        return found

    @property
    def train(self) -> TrainResult:
        """The result of its training."""
        found = self.results.train
        assert found is not None
        return found

    @property
    def search(self) -> SearchResult:
        """The result of its search."""
        found = self.results.search
        assert found is not None
        return found

    @property
    def fitness(self) -> Fitness:
        """What it optimised."""
        fitness: Fitness = self.config["search"]["fitness"]
        return fitness

    @property
    def metrics(self) -> tuple[Fitness, ...]:
        """What the scores of its trials have beside what each has."""
        optimised = (self.fitness, *self.config["search"].get("objectives", ()))
        return tuple(name for name in CLASS_METRICS if name in optimised)

    @cached_property
    def storage(self) -> TrialStorage:
        """Its trials, among others."""
        from glorasearch.db import TrialStorage  # Optuna takes a second to import

        return TrialStorage(self.workspace.database)

    @cached_property
    def trials(self) -> dict[int, TrialRecord]:
        """Number → trial, of those that have a score."""
        from glorasearch.search.trials import scored_trials

        study = self.storage.get_study_id_from_name(self.name)
        return {record.number: record for record in scored_trials(self.storage.outlines(study))}

    def trial(self, number: int) -> TrialRecord:
        """A trial by its number.

        Raises:
            ConfigError: if there is no such trial, or its evaluation failed.
        """
        if number in self.trials:
            return self.trials[number]
        count = self.storage.get_n_trials(self.storage.get_study_id_from_name(self.name))
        what = f"has no trial {number}; it has" if number >= count else f"could not evaluate trial {number}; it made"
        raise ConfigError(f"point.trial: run {self.name!r} {what} the trials 0 to {count - 1}")

    def best_within(self, parameters: int) -> TrialRecord:
        """The best trial, by what was optimised, of at most so many trainable parameters that was evaluated to the end.

        Raises:
            InputError: if none is that small.
        """
        from glorasearch.search.trials import rank

        whole = [record for record in self.trials.values() if not record.score.stopped_early]
        fitting = [record for record in whole if record.parameters <= parameters]
        if not fitting:
            least = min(whole, key=lambda record: record.parameters)
            raise InputError(
                f"run {self.name!r} has no trial of at most {parameters:,} parameters that was evaluated to the end; "
                f"the smallest is trial {least.number} with {least.parameters:,}"
            )
        return min(fitting, key=lambda record: rank(self.fitness, record))

    def undecided(self, parameters: int, best: TrialRecord) -> list[TrialRecord]:
        """Trials of at most so many parameters that were stopped early, but might be better, in the order of bounds."""
        found = [
            record
            for record in self.trials.values()
            if record.score.stopped_early and record.reused_from is None and record.parameters <= parameters
        ]
        return sorted(
            (record for record in found if self.may_beat(record, best)),
            key=lambda record: self._loss(record),
        )

    def may_beat(self, record: TrialRecord, best: TrialRecord) -> bool:
        """Whether a trial that was stopped early may be better than another one, by its bound."""
        return self._loss(record) <= self._loss(best)

    def _loss(self, record: TrialRecord) -> float:
        """What was optimised, the smaller the better; of a trial that was stopped early its bound."""
        from glorasearch.search.trials import worth

        value = worth(self.fitness, record.score)
        return -value if higher_is_better(self.fitness) else value

    def subnet(self, number: int) -> Subnet:
        """The subnet of a trial."""
        return trial_subnet(self.workspace, self.name, str(number), self.search.subnet, "point.trial")

    def origin(self, space: BoundSpace, subnet: Subnet) -> tuple[str | None, float | None]:
        """The start that the subnet is or descends from, and the share of its genes that are the same there."""
        from glorasearch.search.best import origin_of

        starts = {record.start: number for number, record in self.trials.items() if record.start is not None}
        subnets = {name: self.subnet(number) for name, number in starts.items()}
        return origin_of(self.storage, self.name, space, subnet, subnets)

    def summary(self, number: int) -> PointSummary:
        """Where a point comes from, for its report."""
        from glorasearch.search.trials import rank

        record = self.trial(number)
        whole = {one.subnet_digest: one for one in self.trials.values() if not one.score.stopped_early}
        ahead = sum(rank(self.fitness, one) < rank(self.fitness, record) for one in whole.values())
        return PointSummary(
            run=self.name,
            trial=number,
            winner=self.search.trial,
            rank=None if record.score.stopped_early else 1 + ahead,
            ranked=len(whole),
            fitness=self.fitness,
        )

    @property
    def run_config(self) -> RunConfig:
        """Its own configuration.

        Raises:
            ConfigError: if another version has written it.
        """
        return given_config(self.config, f"run {self.name!r}")

    def config_of(self, number: int, overrides: Sequence[str] = ()) -> RunConfig:
        """The configuration of a trial as a run of its own, `NAME-trial-N` unless `overrides` name it.

        Raises:
            ConfigError: if the trial or an override cannot be used.
        """
        self.trial(number)
        own = {
            "name": f"{self.name}-trial-{number}",
            "point": {"run": self.name, "trial": number},
            "race": {**self.config["race"], "enabled": False},
            "search": {key: self.config["search"][key] for key in SCORING},  # a point searches nothing
            "export": {**self.config["export"], "path": None},  # that is where the other run's model is
        }
        return given_config({**self.config, **own}, f"run {self.name!r}, trial {number}", overrides)

    def check(self, configuration: Mapping[str, Any]) -> None:
        """Refuse a point with a race, or whose configuration is not this run's in what the search depends on.

        Args:
            configuration: of the point, as `StoredRun.configuration`.

        Raises:
            ConfigError: naming what differs.
        """
        if configuration["race"]["enabled"]:
            raise ConfigError("point.run is set: a trial that was chosen does not race; set race.enabled = false")
        differing = differing_parts(self.config, configuration, SAME)
        if differing:
            raise ConfigError(
                f"{', '.join(differing)}: not as in run {self.name!r}, whose supernet and search trial "
                f"{configuration['point']['trial']} comes from; a point may differ in {', '.join(OWN)}. Put back what "
                "has changed"
            )

    def baseline(self, name: str, configuration: Mapping[str, Any]) -> BaselineResult | None:
        """The result of a baseline that was trained there as it would be here, if there is one."""
        key = f"report.baselines.{name}"
        same = self.config["report"]["steps"] == configuration["report"]["steps"]
        same = same and self.config["spaces"].get(key) == configuration["spaces"].get(key, {})
        return self.results.get(BaselineResult, name) if same else None
