"""What a process knows of trials: unfinished ones as they were last seen, finished ones where they are listed."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from optuna.trial import FrozenTrial

from glorasearch.db.distribution_store import StoredParams


@dataclass(frozen=True, slots=True)
class CachedTrial:
    """A trial as one revision of its row says. Its parts are replaced, never changed."""

    study_id: int
    revision: int
    stored: StoredParams | None
    """The parameters as the row stores them; None once the trial is finished, when nobody needs them again."""
    trial: FrozenTrial

    @property
    def finished(self) -> bool:
        """Whether the trial can change no more."""
        return self.trial.state.is_finished()


@dataclass(slots=True)
class _Study:
    records: dict[int, CachedTrial] = field(default_factory=dict)
    unfinished: set[int] = field(default_factory=set)
    listed: bool = False
    """Whether somebody has asked for all trials."""
    complete_to: int = 0
    """All trials with a smaller number are in `records`."""


class TrialCache:
    """Records by id and by study. Thread-safe; an older revision never replaces a newer one.

    Finished trials are kept for good once all trials of their study were asked for, as samplers do for every trial and
    dashboards for every page. A process that only writes trials, as the driver of an evolution, keeps none of them.

    The lock is held for look-ups only, never while a database connection is used.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_id: dict[int, CachedTrial] = {}
        self._studies: dict[int, _Study] = {}

    def get(self, trial_id: int) -> CachedTrial | None:
        """The record of a trial, if this process has met it."""
        return self._by_id.get(trial_id)

    def put(self, *records: CachedTrial) -> None:
        """Take in what was read or written."""
        with self._lock:
            for record in records:
                self._put(record)

    def keeps_finished(self, study_id: int) -> bool:
        """Whether the finished trials of a study are kept."""
        study = self._studies.get(study_id)
        return study is not None and study.listed

    def drop(self, record: CachedTrial) -> None:
        """Keep nothing of a trial that has finished, unless the finished ones are kept after all."""
        with self._lock:
            if not self.keeps_finished(record.study_id):
                self._drop(record)

    def to_read(self, study_id: int) -> tuple[int, list[int]]:
        """(n, numbers): the trials from number n on, and those of these numbers, have to be read from the database."""
        with self._lock:
            study = self._studies.setdefault(study_id, _Study())
            study.listed = True
            _count(study)
            return study.complete_to, sorted(number for number in study.unfinished if number < study.complete_to)

    def trials(self, study_id: int) -> list[FrozenTrial]:
        """All trials of a study by number, as far as they are known without a gap."""
        with self._lock:
            study = self._studies.setdefault(study_id, _Study())
            return [study.records[number].trial for number in range(study.complete_to)]

    def forget(self, study_id: int) -> None:
        """Drop a study that was deleted."""
        with self._lock:
            study = self._studies.pop(study_id, _Study())
            for record in study.records.values():
                self._by_id.pop(record.trial._trial_id, None)

    def _put(self, record: CachedTrial) -> None:
        trial_id, number = record.trial._trial_id, record.trial.number
        known = self._by_id.get(trial_id)
        if known is not None and known.revision >= record.revision:
            return
        study = self._studies.setdefault(record.study_id, _Study())
        if record.finished and not study.listed:
            self._drop(record)
            return
        self._by_id[trial_id] = record
        study.records[number] = record
        if record.finished:
            study.unfinished.discard(number)
        else:
            study.unfinished.add(number)
        _count(study)

    def _drop(self, record: CachedTrial) -> None:
        study = self._studies.setdefault(record.study_id, _Study())
        self._by_id.pop(record.trial._trial_id, None)
        study.records.pop(record.trial.number, None)
        study.unfinished.discard(record.trial.number)


def _count(study: _Study) -> None:
    while study.listed and study.complete_to in study.records:
        study.complete_to += 1
