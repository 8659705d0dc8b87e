"""The trials that a process has cached: unfinished ones as last seen, finished ones once a study has been listed."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from optuna.trial import FrozenTrial

from glorasearch.db.distribution_store import StoredParams


@dataclass(frozen=True, slots=True)
class CachedTrial:
    """A trial at one revision of its row. Its parts are replaced, never modified."""

    study_id: int
    revision: int
    stored: StoredParams | None
    """The parameters as the row stores them; None once the trial is finished, when they are not needed again."""
    trial: FrozenTrial

    @property
    def finished(self) -> bool:
        """Whether the trial can no longer change."""
        return self.trial.state.is_finished()


@dataclass(slots=True)
class _Study:
    trials: dict[int, CachedTrial] = field(default_factory=dict)
    unfinished: set[int] = field(default_factory=set)
    listed: bool = False
    """Whether all trials have been asked for."""
    complete_to: int = 0
    """All trials with a smaller number are in `trials`."""


class TrialCache:
    """Cached trials by id and by study. Thread-safe; an older revision never replaces a newer one.

    Finished trials are kept for good once all trials of their study have been asked for, which samplers do for every
    trial and dashboards for every page. A process that only writes trials, such as the driver of an evolution, keeps
    none of them.

    The lock is held for look-ups only, never while a database connection is in use.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_id: dict[int, CachedTrial] = {}
        self._studies: dict[int, _Study] = {}

    def get(self, trial_id: int) -> CachedTrial | None:
        """A trial, if it is cached."""
        return self._by_id.get(trial_id)

    def put(self, *new: CachedTrial) -> None:
        """Cache what was read or written."""
        with self._lock:
            for cached in new:
                self._put(cached)

    def keeps_finished(self, study_id: int) -> bool:
        """Whether the finished trials of a study are kept."""
        study = self._studies.get(study_id)
        return study is not None and study.listed

    def drop(self, cached: CachedTrial) -> None:
        """Drop a trial that has finished, unless the finished ones of its study are kept."""
        with self._lock:
            if not self.keeps_finished(cached.study_id):
                self._drop(cached)

    def to_read(self, study_id: int) -> tuple[int, list[int]]:
        """(n, numbers): the trials from number n on and those with these numbers must be read from the database."""
        with self._lock:
            study = self._studies.setdefault(study_id, _Study())
            study.listed = True
            _advance(study)
            return study.complete_to, sorted(number for number in study.unfinished if number < study.complete_to)

    def trials(self, study_id: int) -> list[FrozenTrial]:
        """The trials of a study by number, up to the first one that is not cached."""
        with self._lock:
            study = self._studies.setdefault(study_id, _Study())
            return [study.trials[number].trial for number in range(study.complete_to)]

    def forget(self, study_id: int) -> None:
        """Drop a study that was deleted."""
        with self._lock:
            study = self._studies.pop(study_id, _Study())
            for cached in study.trials.values():
                self._by_id.pop(cached.trial._trial_id, None)

    def _put(self, cached: CachedTrial) -> None:
        trial_id, number = cached.trial._trial_id, cached.trial.number
        known = self._by_id.get(trial_id)
        if known is not None and known.revision >= cached.revision:
            return
        study = self._studies.setdefault(cached.study_id, _Study())
        if cached.finished and not study.listed:
            self._drop(cached)
            return
        self._by_id[trial_id] = cached
        study.trials[number] = cached
        if cached.finished:
            study.unfinished.discard(number)
        else:
            study.unfinished.add(number)
        _advance(study)

    def _drop(self, cached: CachedTrial) -> None:
        study = self._studies.setdefault(cached.study_id, _Study())
        self._by_id.pop(cached.trial._trial_id, None)
        study.trials.pop(cached.trial.number, None)
        study.unfinished.discard(cached.trial.number)


def _advance(study: _Study) -> None:
    while study.listed and study.complete_to in study.trials:
        study.complete_to += 1
