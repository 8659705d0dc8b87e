"""The trial storage as the dashboard sees it: read-only, every trial summarised."""

from __future__ import annotations

import threading
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any

from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL

from glorasearch.db.database import Database
from glorasearch.db.objective_names import METRIC_NAMES, objective_names
from glorasearch.db.summary import PARAMETERS, StudySummary, round_up
from glorasearch.db.trial_rows import independent_copy
from glorasearch.db.trial_storage import TrialStorage


@dataclass(slots=True)
class _Study:
    summary: StudySummary
    trials: dict[int, FrozenTrial] = field(default_factory=dict)
    """Number → summary of every finished trial."""


class SummarisingStorage(TrialStorage):
    """A read-only view of a database in which a trial has some 15 numbers in place of 240 genes.

    With all genes, a study of 1,050 trials is 99 MB of JSON in Optuna's dashboard. Every method that writes raises
    `DatabaseError`; the database itself is opened read-only, too.
    """

    def __init__(self, database: str | URL | Database) -> None:
        url = database.url if isinstance(database, Database) else database
        super().__init__(Database(url, read_only=True))

    def _open(self, database: Database) -> None:
        super()._open(database)
        self._lock = threading.Lock()
        self._studies: dict[int, _Study] = {}

    def get_all_studies(self) -> list[FrozenStudy]:
        """All studies by id, their objectives named."""
        studies = super().get_all_studies()
        for study in studies:
            study.system_attrs = _named(study.system_attrs, study.user_attrs, len(study.directions))
        return studies

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """The system attributes (Optuna's), with the names of the objectives."""
        objectives = len(self.get_study_directions(study_id))
        return _named(super().get_study_system_attrs(study_id), self.get_study_user_attrs(study_id), objectives)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """The summary of a trial."""
        trial = super().get_trial(trial_id)
        trials = self.get_all_trials(self._trials.study_of(trial_id), deepcopy=False)
        return trials[trial.number] if trial.number < len(trials) else trial

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The summaries of a study's trials by number.

        Trials at the end that have no parameters yet are left out: the dashboard plots what all trials have in common,
        and would remember that this was nothing.
        """
        trials = super().get_all_trials(study_id, deepcopy=False)
        while trials and not trials[-1].state.is_finished() and not trials[-1].params:
            trials.pop()
        with self._lock:
            study = self._study(study_id, trials)
            found = [study.trials.get(trial.number) or self._summarise(study, trial) for trial in trials]
        if states is not None:
            found = [trial for trial in found if trial.state in states]
        return [independent_copy(trial) for trial in found] if deepcopy else found

    def get_n_trials(self, study_id: int, state: tuple[TrialState, ...] | TrialState | None = None) -> int:
        """How many trials `get_all_trials` returns."""
        states = (state,) if isinstance(state, TrialState) else state
        return len(self.get_all_trials(study_id, deepcopy=False, states=states))

    def _study(self, study_id: int, trials: list[FrozenTrial]) -> _Study:
        """The study's summaries; started over if a trial lies outside their ranges."""
        study = self._studies.get(study_id)
        new = trials if study is None else [trial for trial in trials if trial.number not in study.trials]
        most = round_up(float(trial.user_attrs.get(PARAMETERS, 0)) for trial in new)
        if study is not None:
            names = study.summary.names
            if most <= study.summary.most_parameters and all(trial.params.keys() <= names for trial in new):
                return study
            most = max(most, study.summary.most_parameters)
        study = _Study(StudySummary(self._trials.distributions(study_id), most))
        self._studies[study_id] = study
        return study

    @staticmethod
    def _summarise(study: _Study, trial: FrozenTrial) -> FrozenTrial:
        summary = study.summary.summarise(trial)
        if trial.state.is_finished():
            study.trials[trial.number] = summary
        return summary


def _named(system_attrs: dict[str, Any], user_attrs: dict[str, Any], objectives: int) -> dict[str, Any]:
    names = objective_names(user_attrs, objectives)
    return system_attrs if names is None or METRIC_NAMES in system_attrs else system_attrs | {METRIC_NAMES: names}
