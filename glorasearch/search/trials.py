"""The trials of a search: what is known of one, which of two is better, and what is reported of all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, Final, Self, cast

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from glorasearch.errors import SearchError
from glorasearch.search.objectives import COSTS, Cost, Objective, is_quality, rises
from glorasearch.space import (
    CLASS_METRICS,
    FITNESSES,
    OF_NUMBERS,
    EvaluationTask,
    Fitness,
    Score,
    StopThreshold,
    Subnet,
    higher_is_better,
)

SUBNET: Final = "subnet"
"""User attribute: digest of the trial's subnet; a trial without it has not been sampled yet."""
PARAMETERS: Final = "parameters"
"""User attribute: trainable parameters, the head excluded."""
START: Final = "start"
"""User attribute: what the search started from, if this trial is one of that; such as `lora:8 everywhere`."""
PARENTS: Final = "parents"
"""User attribute: numbers of the trials that the subnet was bred from."""
REASON: Final = "reason"
"""User attribute: why the evaluation failed."""

COST: Final = "cost_"
"""User attributes that start so: what else a search counts of a subnet, such as `cost_bytes`."""

_SCORE_FIELDS: Final = tuple(one.name for one in fields(Score))
_COUNTED: Final[tuple[Cost, ...]] = tuple(name for name in COSTS if name != PARAMETERS)
_MEASURED: Final = tuple(one.name for one in fields(Score) if one.default is MISSING)
"""The parts of every score."""
_OF_IMAGES_SEEN: Final = (*FITNESSES, *CLASS_METRICS, *OF_NUMBERS, "beta", "temperature")
"""Of an evaluation that stopped early these are of its hardest images only, so their attributes start with `seen_`."""
_NOT_OF_NUMBERS: Final = ("accuracy", "temperature", "correct", "cross_entropy", "tempered", "beta")
"""What a score of numbers does not have."""

Rank = tuple[float, float, float, int]
"""Sorts trials, the best first: fitness, two tie-breaks, trial number."""


@dataclass(slots=True)
class RunningTrial:
    """A trial that has its subnet and waits for its score."""

    number: int
    """The trial's number in its study, from 0."""
    subnet: Subnet
    parameters: int
    """Trainable parameters, the head excluded."""
    start: str | None = None
    """Its name, if the search starts from it."""
    parents: tuple[int, ...] = ()
    """The trials that it was bred from."""
    costs: Mapping[Cost, float] = field(default_factory=dict)
    """What else a search counts of it, beside the parameters."""
    trial_id: int = -1
    """The trial's id in the storage, once it is there."""
    threshold: StopThreshold | None = None
    """Set when the trial is about to be submitted."""

    @property
    def attrs(self) -> dict[str, Any]:
        """The user attributes that say which subnet the trial has, and where that comes from."""
        attrs: dict[str, Any] = {SUBNET: self.subnet.digest, PARAMETERS: self.parameters}
        attrs |= {} if self.start is None else {START: self.start}
        attrs |= {f"{COST}{name}": value for name, value in self.costs.items()}
        return attrs | ({PARENTS: list(self.parents)} if self.parents else {})

    def scored(self, score: Score, reused_from: int | None = None) -> TrialRecord:
        """The record of the trial, now that it has its score."""
        return TrialRecord(
            self.number, self.subnet.digest, self.parameters, score, reused_from, self.start, self.parents, self.costs
        )

    @classmethod
    def from_attrs(cls, number: int, subnet: Subnet, attrs: Mapping[str, Any], trial_id: int) -> Self:
        """A stored trial that has its subnet, from its user attributes."""
        parents = tuple(attrs.get(PARENTS, ()))
        return cls(number, subnet, attrs[PARAMETERS], attrs.get(START), parents, _costs(attrs), trial_id)

    def task(self, weights_digest: str, metrics: tuple[Fitness, ...] = ()) -> EvaluationTask:
        """What an executor needs to evaluate the trial; `metrics` are what its score has beside the usual ones."""
        return EvaluationTask(self.subnet.to_json(), self.subnet.digest, weights_digest, self.threshold, metrics)


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """A trial that has its score on the search split."""

    number: int
    """The trial's number in its study, from 0."""
    subnet_digest: str
    parameters: int
    """Trainable parameters, the head excluded."""
    score: Score
    reused_from: int | None = None
    """The trial that evaluated the same subnet before, if this one did not."""
    start: str | None = None
    """Its name, if the search starts from it, such as `lora:8 everywhere`."""
    parents: tuple[int, ...] = ()
    """The trials that its subnet was bred from: one for a mutant, two for a crossover child."""
    costs: Mapping[Cost, float] = field(default_factory=dict)
    """What else the search counts of its subnet, beside the parameters."""

    COLUMNS: ClassVar[tuple[str, ...]] = (
        "number", "subnet_digest", "parameters", "start", "parents", "reused_from", "accuracy", "temperature", "seen",
        "stopped_early", *_SCORE_FIELDS, *_COUNTED,
    )  # fmt: skip
    """The columns of a table of trials."""

    def to_row(self) -> dict[str, Any]:
        """The trial and its score as one row; accuracy, cross-entropy and the like are those of the images seen."""
        row = {name: self.costs.get(name) for name in _COUNTED}
        names = (name for name in self.COLUMNS if name not in row)
        found = {name: getattr(self if hasattr(self, name) else self.score, name) for name in names} | row
        return found if self.score.right_or_wrong else found | dict.fromkeys(_NOT_OF_NUMBERS)

    def value(self, objective: Objective) -> float:
        """What it is worth, or costs; of a part of the score of a trial that was stopped early the bound."""
        if is_quality(objective):
            return worth(objective, self.score)
        return float(self.parameters) if objective == PARAMETERS else self.costs[cast("Cost", objective)]

    def to_attrs(self) -> dict[str, Any]:
        """The user attributes that a trial gains when it gets its score."""
        score = self.score
        left_out = () if score.right_or_wrong else _NOT_OF_NUMBERS
        names = (name for name in ("accuracy", "temperature", *_SCORE_FIELDS) if name not in left_out)
        values = {name: getattr(score, name) for name in names}
        attrs: dict[str, Any] = {"origin": "evaluated" if self.reused_from is None else "reused"}
        attrs |= {_attribute(name, score.stopped_early): value for name, value in values.items() if value is not None}
        return attrs if self.reused_from is None else attrs | {"reused_from": self.reused_from}

    @classmethod
    def from_attrs(cls, number: int, attrs: Mapping[str, Any]) -> Self:
        """The record of a stored trial that has its score.

        Raises:
            SearchError: if a part of the score is not there, which earlier versions did not measure.
        """
        keys = {name: _attribute(name, "bound" in attrs) for name in _SCORE_FIELDS}
        if keys["squared_error"] in attrs:
            known = {name: attrs[key] for name, key in keys.items() if key in attrs}
            return cls._stored(number, attrs, Score.of_numbers(**known))
        lacking = [name for name, key in keys.items() if name in _MEASURED and key not in attrs]
        if lacking:
            raise SearchError(
                f"trial {number} is of an earlier version, which did not record {', '.join(lacking)}; give the search "
                "another name, or start over with --fresh"
            )
        return cls._stored(number, attrs, Score(**{name: attrs[key] for name, key in keys.items() if key in attrs}))

    @classmethod
    def _stored(cls, number: int, attrs: Mapping[str, Any], score: Score) -> Self:
        origin = attrs.get("reused_from"), attrs.get(START), tuple(attrs.get(PARENTS, ())), _costs(attrs)
        return cls(number, attrs[SUBNET], attrs[PARAMETERS], score, *origin)


def has_score(trial: FrozenTrial) -> bool:
    """Whether a stored trial was evaluated, to the end or until it was stopped early."""
    return trial.state == TrialState.COMPLETE or (trial.state == TrialState.PRUNED and "bound" in trial.user_attrs)


def scored_trials(trials: Iterable[FrozenTrial]) -> list[TrialRecord]:
    """The records of those stored trials that have a score."""
    return [TrialRecord.from_attrs(trial.number, trial.user_attrs) for trial in trials if has_score(trial)]


def direction(objective: Objective) -> StudyDirection:
    """The direction in which an Optuna study improves."""
    return StudyDirection.MAXIMIZE if rises(objective) else StudyDirection.MINIMIZE


def worth(fitness: Fitness, score: Score) -> float:
    """The objective value of a score; if the evaluation stopped early its bound, the best that it could have been."""
    if score.bound is not None:
        return score.bound
    return float(getattr(score, fitness))


def rank(fitness: Fitness, record: TrialRecord) -> Rank:
    """The sorting key of a trial that was evaluated to the end.

    Accuracy: higher is better, ties go to the lower mean cross-entropy. Cross-entropy, tempered or not: lower is
    better, ties go to the higher accuracy, those of tempered ones to the lower plain cross-entropy: a candidate that
    errs nowhere is tempered to 0. Squared error: lower is better. Metrics that take classes alike: higher is better,
    ties go as those of tempered ones. Remaining ties go to the earlier trial.
    """
    accuracy, cross_entropy = -record.score.accuracy, record.score.cross_entropy
    if fitness == "accuracy":
        return accuracy, cross_entropy, 0.0, record.number
    if fitness == "cross_entropy":
        return cross_entropy, accuracy, 0.0, record.number
    value = float(getattr(record.score, fitness))
    return -value if higher_is_better(fitness) else value, accuracy, cross_entropy, record.number


@dataclass(frozen=True, slots=True)
class SearchProgress:
    """The state of a search after a trial has finished; trials of earlier processes count."""

    trials: int
    """Trials to be made in all."""
    evaluated: int
    reused: int
    """Trials whose subnet had been evaluated before."""
    stopped_early: int
    """Evaluated trials that were certain to be neither parents nor the winner, and so were stopped."""
    failed: int
    best: TrialRecord | None
    """The best trial so far."""
    best_fitness: float | None
    """Its fitness."""
    latest: TrialRecord | None = None
    """The trial that has finished now; None if its evaluation has failed."""

    @property
    def done(self) -> int:
        """Finished trials."""
        return self.evaluated + self.reused + self.failed


@dataclass(frozen=True, slots=True)
class SearchOutcome:
    """What a search found; trials of earlier processes count."""

    study: str
    best: TrialRecord
    """The winner's number and score."""
    subnet: Subnet
    """The winner."""
    start: str | None
    """What the search started from and the winner is, or descends from; of several that it shares most genes with."""
    start_share: float | None
    """The share of its genes that are the same there: 1 if it is that itself."""
    trials: int
    """Finished trials: evaluated, reused and failed."""
    evaluated: int
    reused: int
    """Trials whose subnet had been evaluated before."""
    stopped_early: int
    """Evaluated trials that were certain to be neither parents nor the winner, and so were stopped."""
    failed: int
    images_share: float
    """Images that were scored, as a share of those that evaluating every trial to the end would have scored."""
    seconds: float
    """Wall-clock seconds that this process searched."""
    evaluation_seconds: float
    """Sum of the wall-clock seconds of all evaluations, those of earlier processes included."""
    pareto: tuple[TrialRecord, ...]
    """The front of `SearchConfig.front`, the cheapest first. Trials that were stopped early, whose worth is not known,
    do not take part."""


def _costs(attrs: Mapping[str, Any]) -> dict[Cost, float]:
    return {name: attrs[f"{COST}{name}"] for name in _COUNTED if f"{COST}{name}" in attrs}


def _attribute(name: str, stopped_early: bool) -> str:
    """The user attribute that holds a field of the score."""
    return f"seen_{name}" if stopped_early and name in _OF_IMAGES_SEEN else name
