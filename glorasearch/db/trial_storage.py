"""The Optuna storage over the project's own tables: one row a trial."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL, func, select

from glorasearch.db.columns import json_copy, local_now
from glorasearch.db.database import Database, as_database
from glorasearch.db.distribution_store import StoredParams
from glorasearch.db.retry import retried
from glorasearch.db.study_storage import StudyStorage, require_study
from glorasearch.db.trial_rows import independent_copy, intermediate_values, internal_values, trials
from glorasearch.db.trial_table import EncodedParams, TrialTable


class TrialStorage(StudyStorage):
    """`optuna.storages.BaseStorage` with all parameters of a trial in one JSON column of one row.

    Passes Optuna's published storage contract, so any sampler works on it. Beyond the contract it creates many trials
    in one transaction (`create_trials`), and sets all parameters of a trial (`set_trial_params`) or finishes it with
    its score (`finish_trial`) in one statement.

    Threads and processes may share a database. A write names the revision of the row that it has seen; if another write
    came first, it is repeated on the new revision. So no write is lost, and none needs to be read back. Finished trials
    are immutable and are cached: `get_all_trials` reads only what is new and what was unfinished.

    The storage can be pickled; the copy opens the same database with an empty cache.

    Raises:
        InputError, SchemaTooNewError, DatabaseError: as `Database`, when given a URL.
    """

    def __init__(self, database: str | URL | Database) -> None:
        self._open(as_database(database))

    def _open(self, database: Database) -> None:
        self._database = database
        self._trials = TrialTable(database)

    def __getstate__(self) -> dict[str, Any]:
        return {"database": self._database}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._open(state["database"])

    @property
    def database(self) -> Database:
        """The database that holds the trials."""
        return self._database

    def finished_digest(self, study: str) -> str:
        """SHA-256 over the finished trials of a study: number, state, objectives, parameters and attributes.

        Raises:
            KeyError: if there is no such study.
        """
        return self._trials.finished_digest(self.get_study_id_from_name(study))

    # What the search driver adds to Optuna's contract.

    def set_trial_params(
        self,
        trial_id: int,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        user_attrs: Mapping[str, Any] | None = None,
    ) -> None:
        """Set parameters (external values) of an unfinished trial, and user attributes, in one statement.

        Raises:
            ValueError: if a distribution is incompatible with the one that the study has for that parameter.
            KeyError, UpdateFinishedTrialError: if there is no such trial, or it is finished.
        """
        encoded = self._trials.encode(trial_id, internal_values(params, distributions), distributions)

        def change(trial: FrozenTrial, stored: StoredParams) -> Mapping[str, Any]:
            add_params(trial, stored, encoded)
            trial.user_attrs.update(json_copy(user_attrs or {}))
            return {"params": stored, "user_attrs": trial.user_attrs}

        self._trials.change(trial_id, change)

    def create_trials(
        self,
        study_id: int,
        number: int,
        params: Sequence[Mapping[str, Any]],
        distributions: Mapping[str, BaseDistribution],
        user_attrs: Sequence[Mapping[str, Any]],
    ) -> list[int] | None:
        """Create running trials with all their parameters (external values) and user attributes in one transaction.

        They get the numbers from `number` on. Returns their ids; None, with nothing created, if the next number of the
        study is another one because somebody else creates trials in it.

        Raises:
            ValueError: if a distribution is incompatible with the one that the study has for that parameter.
            KeyError: if there is no such study.
        """
        return self._trials.create_many(study_id, number, params, distributions, user_attrs)

    def outlines(self, study_id: int) -> Iterator[FrozenTrial]:
        """The trials of a study by number, finished ones without parameters and distributions.

        They are read in pieces as they are consumed, and not cached, so a study may be of any length.

        Raises:
            KeyError: if there is no such study.
        """
        return self._trials.outlines(study_id)

    def finish_trial(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None, user_attrs: Mapping[str, Any]
    ) -> None:
        """Finish a trial: set its state, objective values and user attributes in one statement.

        Raises:
            KeyError, UpdateFinishedTrialError: if there is no such trial, or it is finished already.
        """
        if not state.is_finished():
            raise ValueError(f"a trial cannot be finished with state {state.name}; use COMPLETE, PRUNED or FAIL")

        def change(trial: FrozenTrial, stored: StoredParams) -> Mapping[str, Any]:
            trial.user_attrs.update(json_copy(user_attrs))
            return {"user_attrs": trial.user_attrs, **_set_state(trial, state, values)}

        self._trials.change(trial_id, change)

    # Optuna's contract.

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Insert a trial, running or a copy of a template, and return its id."""
        if template_trial is None:
            trial = FrozenTrial(-1, TrialState.RUNNING, None, local_now(), None, {}, {}, {}, {}, {}, -1)
        else:
            trial = independent_copy(template_trial)
            trial.user_attrs, trial.system_attrs = json_copy(trial.user_attrs), json_copy(trial.system_attrs)
        return self._trials.create(study_id, trial)

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """Set one parameter of an unfinished trial."""
        encoded = self._trials.encode(trial_id, {param_name: param_value_internal}, {param_name: distribution})

        def change(trial: FrozenTrial, stored: StoredParams) -> Mapping[str, Any]:
            add_params(trial, stored, encoded)
            return {"params": stored}

        self._trials.change(trial_id, change)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Set state and objective values. False if it was to become RUNNING and was not WAITING any more."""
        if state == TrialState.RUNNING:
            self._trials.read(trial_id)

        def change(trial: FrozenTrial, stored: StoredParams) -> Mapping[str, Any] | None:
            if state == TrialState.RUNNING and trial.state != TrialState.WAITING:
                return None
            return _set_state(trial, state, values)

        return self._trials.change(trial_id, change)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Report an intermediate value."""

        def change(trial: FrozenTrial, stored: StoredParams) -> Mapping[str, Any]:
            trial.intermediate_values[step] = intermediate_value
            return {"intermediate": intermediate_values(trial)}

        self._trials.change(trial_id, change)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a user attribute."""

        def change(trial: FrozenTrial, stored: StoredParams) -> Mapping[str, Any]:
            trial.user_attrs[key] = json_copy(value)
            return {"user_attrs": trial.user_attrs}

        self._trials.change(trial_id, change)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a system attribute (Optuna's)."""

        def change(trial: FrozenTrial, stored: StoredParams) -> Mapping[str, Any]:
            trial.system_attrs[key] = json_copy(value)
            return {"system_attrs": trial.system_attrs}

        self._trials.change(trial_id, change)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """A trial; if it is unfinished, the caller's own copy of what the database has now."""
        return self._trials.get(trial_id)

    @retried
    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        """(Study, number) → id."""
        wanted = select(trials.c.id).where(trials.c.study_id == study_id, trials.c.number == trial_number)
        with self._database.read() as connection:
            found = connection.scalar(wanted)
        if found is None:
            raise KeyError(f"there is no trial number {trial_number} in a study with id {study_id}")
        return int(found)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials of a study by number."""
        found = self._trials.all(study_id)
        if states is not None:
            found = [trial for trial in found if trial.state in states]
        return [independent_copy(trial) for trial in found] if deepcopy else found

    @retried
    def get_n_trials(self, study_id: int, state: tuple[TrialState, ...] | TrialState | None = None) -> int:
        """How many trials a study has, or how many in these states."""
        wanted = select(func.count()).select_from(trials).where(trials.c.study_id == study_id)
        if state is not None:
            states = (state,) if isinstance(state, TrialState) else state
            wanted = wanted.where(trials.c.state.in_([one.name.lower() for one in states]))
        with self._database.read() as connection:
            require_study(connection, study_id)
            return int(connection.execute(wanted).scalar_one())

    def _forget(self, study_id: int) -> None:
        self._trials.forget(study_id)


def add_params(trial: FrozenTrial, stored: StoredParams, encoded: EncodedParams) -> None:
    """Add parameters to a trial, and to what its row stores."""
    stored.update(encoded[0])
    trial.params.update(encoded[1])
    trial.distributions.update(encoded[2])


def _set_state(trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> dict[str, Any]:
    trial.state = state
    columns: dict[str, Any] = {"state": state.name.lower()}
    if values is not None:
        trial.values = [float(value) for value in values]
        columns["objectives"] = trial.values
    if state == TrialState.RUNNING:
        columns["started"] = trial.datetime_start = local_now()
    if state.is_finished():
        now = local_now()  # a clock may have been set back since the trial began
        columns["finished"] = trial.datetime_complete = max(now, trial.datetime_start or now)
    return columns
