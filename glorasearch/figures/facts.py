"""Everything that a run has recorded, read once. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from optuna.trial import FrozenTrial
from sqlalchemy import URL

from glorasearch.db import Database, NoteStore, RaceMember, RaceStore, RunRecord, RunStore, TrialStorage
from glorasearch.db.objective_names import objective_in_words
from glorasearch.errors import GlorasearchError
from glorasearch.figures.layers import layer_parameters
from glorasearch.runs.curves import Row, stored_rows
from glorasearch.runs.results import Pick, RefitResult, Report, Results, TestResult
from glorasearch.runs.watched import Watched, recorded_fitness, recorded_task, setting
from glorasearch.search.trials import PARAMETERS, START, SUBNET, TrialRecord, has_score, scored_trials, worth
from glorasearch.space import Fitness, higher_is_better
from glorasearch.tasks.kinds import TaskKind


@dataclass(frozen=True, slots=True)
class TrialFact:
    """A trial that has its score."""

    number: int
    subnet: str
    """Digest."""
    parameters: int
    fitness: float | None
    """None if it was stopped early: only a bound is known."""
    accuracy: float | None
    """Likewise."""
    start: str | None
    finished: datetime | None
    seconds: float
    """Of its evaluation; 0 if it was met before."""
    genes: Mapping[str, str]
    """Gene, such as `blocks.0.attn.qkv.B`, → choice; without those that have one choice only."""
    record: TrialRecord
    """As the search has it."""


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """A run at one moment."""

    record: RunRecord
    watched: Watched
    results: Results
    rows: tuple[Row, ...]
    """The points of its curves."""
    trials: tuple[TrialFact, ...]
    """By number."""
    members: tuple[RaceMember, ...]
    """The trainings of its race."""
    folder: Path | None
    """Of the run, if it is at hand."""
    note: str = ""
    """What a person has noted of it."""
    origins: tuple[RunRecord, ...] = ()
    """The runs that it takes over from, as a point or a longer training does, the first one first."""

    @classmethod
    def read(cls, database: str | URL | Database, name: str, folder: Path | None = None) -> RunFacts:
        """What a run has recorded.

        Args:
            database: of the run.
            name: of the run.
            folder: of the run; predictions of test images and sizes of weights are read there.

        Raises:
            RunNotFoundError: if there is no run of that name.
            DamagedRowError: if it cannot be read.
        """
        runs = RunStore(database)
        watched = Watched.read(runs, name)
        record = watched.record
        rows = tuple(stored_rows(runs, name, record.stages, record.config))
        return cls(
            record=record,
            watched=watched,
            results=Results(record.stages, name),
            rows=rows,
            trials=_trials(runs.database, name, recorded_fitness(record)),
            members=tuple(RaceStore(runs.database).list(name)),
            folder=folder,
            note=NoteStore(runs.database).readable(name)[0],
            origins=_origins(runs, record),
        )

    @property
    def fitness(self) -> Fitness:
        """What the search optimises."""
        return recorded_fitness(self.record)

    @property
    def task(self) -> TaskKind:
        """What is asked of an image."""
        return recorded_task(self.record)

    @property
    def fitness_title(self) -> str:
        """That, in words, without its unit: `tempered cross-entropy`."""
        return self.fitness_axis.partition(",")[0]

    @property
    def fitness_axis(self) -> str:
        """The same with its unit, for an axis."""
        return objective_in_words(self.fitness)

    @property
    def rising(self) -> bool:
        """Whether more of it is better."""
        return higher_is_better(self.fitness)

    @property
    def report(self) -> Report | None:
        """The final report; None before there is one, or if another version wrote it."""
        return self.results.readable(Report)

    @property
    def tested(self) -> TestResult | None:
        """What was measured on the test split."""
        return self.results.readable(TestResult)

    @property
    def pick(self) -> Pick | None:
        """What is refitted and exported; None before it is known, or if another version recorded it."""
        try:
            return self.results.pick
        except GlorasearchError:
            return None

    @property
    def evaluated(self) -> tuple[TrialFact, ...]:
        """The trials that were evaluated to the end."""
        return tuple(trial for trial in self.trials if trial.fitness is not None)

    def layer_parameters(self) -> dict[str, int]:
        """Layer → trainable parameters of the winner there; empty if the layers' shapes are not known."""
        pick = self.pick
        return {} if pick is None else layer_parameters(self.record, pick, self._manifest())

    def _manifest(self) -> Path | None:
        """Of the weights of the refit, in the workspace's store."""
        refit = self.results.readable(RefitResult)
        if self.folder is None or refit is None:
            return None
        return self.folder.parent.parent / "weights" / refit.weights / "manifest.json"


def origin(record: RunRecord) -> str | None:
    """The name of the run that one takes over from."""
    return setting(record.config, "point", "run") or setting(record.config, "longer", "run")


def _origins(runs: RunStore, record: RunRecord) -> tuple[RunRecord, ...]:
    found: list[RunRecord] = []
    while (name := origin(record)) and name not in (one.name for one in found) and (known := runs.get(name)):
        found.insert(0, record := known)
    return tuple(found)


def _trials(database: Database, study: str, fitness: Fitness) -> tuple[TrialFact, ...]:
    storage = TrialStorage(database)
    try:
        found = storage.get_all_trials(storage.get_study_id_from_name(study), deepcopy=False)
    except KeyError:
        return ()
    return tuple(fact for trial in found if has_score(trial) for fact in _fact(trial, fitness))


def _fact(trial: FrozenTrial, fitness: Fitness) -> list[TrialFact]:
    try:
        (record,) = scored_trials([trial])
        full = not record.score.stopped_early
        value = worth(fitness, record.score) if full else None
    except (GlorasearchError, KeyError, TypeError, ValueError):  # of an earlier version
        return []
    attrs = trial.user_attrs
    return [
        TrialFact(
            number=trial.number,
            subnet=str(attrs[SUBNET]),
            parameters=int(attrs[PARAMETERS]),
            fitness=value,
            accuracy=record.score.accuracy if full and record.score.right_or_wrong else None,
            start=attrs.get(START),
            finished=trial.datetime_complete,
            seconds=0.0 if record.reused_from is not None else float(attrs.get("seconds") or 0.0),
            genes={name: str(choice) for name, choice in trial.params.items()},
            record=record,
        )
    ]
