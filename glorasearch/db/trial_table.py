"""Reads and writes the rows of trials, through a cache, so that no concurrent write is lost."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Row, Select, Update, and_, bindparam, case, or_, select, type_coerce, update
from sqlalchemy.types import NullType

from glorasearch.db.columns import json_copy, local_now
from glorasearch.db.database import Database
from glorasearch.db.distribution_store import DistributionStore, StoredParams
from glorasearch.db.finished_trial import FinishedTrial
from glorasearch.db.retry import retried
from glorasearch.db.study_storage import require_study, studies
from glorasearch.db.trial_cache import CachedTrial, TrialCache
from glorasearch.db.trial_rows import (
    COLUMNS,
    changeable_copy,
    frozen_trial,
    independent_copy,
    internal_values,
    row_values,
    trials,
)

_MANY = 500
"""More unfinished trials than this are read as a range of numbers rather than as a list."""
_PIECE = 1_000
"""Trials that `outlines` reads at once."""

_RAISE = (
    update(studies)
    .where(studies.c.id == bindparam("of"))
    .values(trial_count=studies.c.trial_count + bindparam("by"))
    .returning(studies.c.trial_count)
)
_RAISE_FROM = _RAISE.where(studies.c.trial_count == bindparam("at"))
_INSERT = trials.insert().returning(trials.c.number, trials.c.id)

Change = Callable[[FrozenTrial, StoredParams], Mapping[str, Any] | None]
"""Changes a copy of a trial; returns the columns that changed, or None to write nothing."""

EncodedParams = tuple[StoredParams, dict[str, Any], dict[str, BaseDistribution]]
"""Parameters as the row stores them, with external values, and their distributions."""


class TrialTable:
    """The trials of a database, as one process sees them. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._distributions = DistributionStore(database)
        self._cache = TrialCache()

    def get(self, trial_id: int) -> FrozenTrial:
        """A trial: if it is finished, shared with all callers; else a copy of what the database has now."""
        cached = self._cache.get(trial_id)
        if cached is None or not cached.finished:
            cached = self.read(trial_id)
        return cached.trial if cached.finished else independent_copy(cached.trial)

    @retried
    def all(self, study_id: int) -> list[FrozenTrial]:
        """The trials of a study by number; reads what is new and what was unfinished."""
        complete_to, unfinished = self._cache.to_read(study_id)
        if len(unfinished) > _MANY:
            complete_to, unfinished = unfinished[0], []
        new = or_(trials.c.number >= complete_to, trials.c.number.in_(unfinished))
        wanted = select(*COLUMNS).where(and_(trials.c.study_id == study_id, new)).order_by(trials.c.number)
        try:
            with self._database.read() as connection:
                require_study(connection, study_id)
                rows = connection.execute(wanted).all()
        except KeyError:
            self.forget(study_id)
            raise
        self._cache.put(*map(self._from_row, rows))
        return self._cache.trials(study_id)

    def study_of(self, trial_id: int) -> int:
        """The study that a trial belongs to.

        Raises:
            KeyError: if there is no such trial.
        """
        return (self._cache.get(trial_id) or self.read(trial_id)).study_id

    @retried
    def read(self, trial_id: int) -> CachedTrial:
        """What the database has of a trial now.

        Raises:
            KeyError: if there is no such trial.
        """
        with self._database.read() as connection:
            row = connection.execute(select(*COLUMNS).where(trials.c.id == trial_id)).one_or_none()
        if row is None:
            raise KeyError(f"there is no trial with id {trial_id}")
        cached = self._from_row(row)
        self._cache.put(cached)
        return cached

    def create(self, study_id: int, trial: FrozenTrial) -> int:
        """Insert a trial under the next number of its study; returns its id.

        Raises:
            KeyError: if there is no such study.
        """
        internal = internal_values(trial.params, trial.distributions)
        stored = self._distributions.encode(study_id, internal, trial.distributions)
        inserted = self._insert(study_id, None, [row_values(trial, stored)])
        assert inserted is not None
        ((trial.number, trial._trial_id),) = inserted
        self._cache.put(self._cached(study_id, 0, trial, stored))
        return trial._trial_id

    def create_many(
        self,
        study_id: int,
        number: int,
        params: Sequence[Mapping[str, Any]],
        distributions: Mapping[str, BaseDistribution],
        user_attrs: Sequence[Mapping[str, Any]],
    ) -> list[int] | None:
        """Insert running trials with their parameters (external values) under the numbers from `number` on.

        Returns their ids; None, with nothing inserted, if the next number of the study is another one.

        Raises:
            ValueError: if a distribution is incompatible with the one that the study has for that parameter.
            KeyError: if there is no such study.
        """
        stored = [
            self._distributions.encode(study_id, internal_values(values, distributions), distributions)
            for values in params
        ]
        started, shared = local_now(), dict(distributions)
        new = [
            FrozenTrial(
                number + index, TrialState.RUNNING, None, started, None, dict(values), shared, attrs, {}, {}, -1
            )
            for index, (values, attrs) in enumerate(zip(params, map(json_copy, user_attrs), strict=True))
        ]
        inserted = self._insert(study_id, number, [row_values(*pair) for pair in zip(new, stored, strict=True)])
        if inserted is None:
            return None
        for trial, (_, trial_id), values in zip(new, inserted, stored, strict=True):
            trial._trial_id = trial_id
            self._cache.put(CachedTrial(study_id, 0, values, trial))
        return [trial._trial_id for trial in new]

    @retried
    def _insert(
        self, study_id: int, number: int | None, rows: Sequence[Mapping[str, Any]]
    ) -> list[tuple[int, int]] | None:
        """Insert rows under the next numbers of a study; returns (number, id) of each.

        If `number` is given and is not the next one, nothing is inserted and None is returned.
        """
        with self._database.write() as connection:
            # The update comes first: it holds the study's row until the commit, so numbers are given in order.
            raised = {"of": study_id, "by": len(rows)}
            if number is None:
                count = connection.scalar(_RAISE, raised)
            else:
                count = connection.scalar(_RAISE_FROM, raised | {"at": number})
            if count is None:
                require_study(connection, study_id)
                return None
            first = count - len(rows)
            numbered = [
                {"study_id": study_id, "number": first + index, "revision": 0, **row} for index, row in enumerate(rows)
            ]
            ids = {row.number: int(row.id) for row in connection.execute(_INSERT, numbered)}
        return sorted(ids.items())

    def outlines(self, study_id: int) -> Iterator[FrozenTrial]:
        """The trials of a study by number, finished ones without their parameters; read in pieces and not cached.

        Raises:
            KeyError: if there is no such study.
        """
        number = 0
        while rows := self._outlines(study_id, number):
            for row in rows:
                trial = frozen_trial(row)
                if row.params is not None:
                    trial.params, trial.distributions = self._distributions.decode(study_id, row.params)
                yield trial
            number = rows[-1].number + 1

    @retried
    def _outlines(self, study_id: int, number: int) -> Sequence[Row[Any]]:
        """The next rows of a study from a number on, without the parameters of finished trials."""
        finished = [state.name.lower() for state in TrialState if state.is_finished()]
        params = case((trials.c.state.not_in(finished), trials.c.params)).label("params")
        columns = [column for column in COLUMNS if column.name != "params"]
        here = and_(trials.c.study_id == study_id, trials.c.number >= number)
        with self._database.read() as connection:
            require_study(connection, study_id)
            wanted: Select[Any] = select(*columns, params).where(here).order_by(trials.c.number).limit(_PIECE)
            return connection.execute(wanted).all()

    @retried
    def finished_digest(self, study_id: int) -> str:
        """As `TrialStorage.finished_digest`: over the texts that are stored, none of which is decoded."""
        columns = (trials.c[name] for name in ("number", "state", "objectives", "params", "user_attrs"))
        done = and_(trials.c.study_id == study_id, trials.c.state.not_in(("running", "waiting")))
        wanted = select(*(type_coerce(column, NullType()) for column in columns)).where(done).order_by(trials.c.number)
        found = hashlib.sha256()
        with self._database.read() as connection:
            for row in connection.execute(wanted):
                found.update(f"{tuple(row)!r}\n".encode())
        return found.hexdigest()

    def encode(
        self, trial_id: int, params: Mapping[str, float], distributions: Mapping[str, BaseDistribution]
    ) -> EncodedParams:
        """Parameters (internal values) as the row of an unfinished trial stores them.

        Raises:
            ValueError: if a distribution is incompatible with the one that the study has for that parameter.
            KeyError, UpdateFinishedTrialError: if there is no such trial, or it is finished.
        """
        study_id = self._unfinished(trial_id).study_id
        stored = self._distributions.encode(study_id, params, distributions)
        return stored, *self._distributions.decode_part(study_id, stored)

    def change(self, trial_id: int, change: Change) -> bool:
        """Apply a change to the newest revision of a trial; False if there was nothing to change.

        Raises:
            KeyError, UpdateFinishedTrialError: if there is no such trial, or it is finished.
        """
        while True:
            cached = self._unfinished(trial_id)
            trial, stored = changeable_copy(cached.trial), dict(cached.stored or {})
            columns = change(trial, stored)
            if columns is None:
                return False
            if self._write(cached, columns):
                if not trial.state.is_finished():
                    self._cache.put(CachedTrial(cached.study_id, cached.revision + 1, stored, trial))
                elif self._cache.keeps_finished(cached.study_id):
                    self._cache.put(self._cached(cached.study_id, cached.revision + 1, trial, stored))
                else:
                    self._cache.drop(cached)
                return True
            self.read(trial_id)

    def forget(self, study_id: int) -> None:
        """Drop what is cached of a study that was deleted."""
        self._cache.forget(study_id)
        self._distributions.forget(study_id)

    def distributions(self, study_id: int) -> dict[str, BaseDistribution]:
        """Name → first distribution of every parameter that trials of a study have used."""
        return self._distributions.of_study(study_id)

    @retried
    def _write(self, cached: CachedTrial, columns: Mapping[str, Any]) -> bool:
        """Write, unless another process has changed the row since it was cached: False then."""
        trial_id = cached.trial._trial_id
        row = {**columns, "revision": cached.revision + 1, "seen_id": trial_id, "seen_revision": cached.revision}
        with self._database.write() as connection:
            return connection.execute(_update_of(("revision", *columns)), row).rowcount == 1

    def _unfinished(self, trial_id: int) -> CachedTrial:
        cached = self._cache.get(trial_id) or self.read(trial_id)
        if cached.finished:
            raise UpdateFinishedTrialError(f"trial {cached.trial.number} has finished and cannot be changed")
        return cached

    def _from_row(self, row: Row[Any]) -> CachedTrial:
        return self._cached(row.study_id, row.revision, frozen_trial(row), row.params)

    def _cached(self, study_id: int, revision: int, trial: FrozenTrial, stored: StoredParams) -> CachedTrial:
        if trial.state.is_finished():
            return CachedTrial(
                study_id, revision, None, FinishedTrial(trial, *self._distributions.pack(study_id, stored))
            )
        trial.params, trial.distributions = self._distributions.decode(study_id, stored)
        return CachedTrial(study_id, revision, stored, trial)


@functools.lru_cache(maxsize=64)
def _update_of(columns: tuple[str, ...]) -> Update:
    """The statement that writes these columns of a trial, provided that its row is still at the revision seen."""
    seen = and_(trials.c.id == bindparam("seen_id"), trials.c.revision == bindparam("seen_revision"))
    return update(trials).where(seen).values({name: bindparam(name) for name in columns})
