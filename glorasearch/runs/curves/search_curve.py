"""The curve of a search: a point each time that a trial finishes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from glorasearch.db import Database, TrialStorage
from glorasearch.errors import SearchError
from glorasearch.runs.curves.rows import SEARCH, Row
from glorasearch.search import SearchConfig, TrialRecord
from glorasearch.search.config import SAMPLED_IN_BATCHES
from glorasearch.search.trials import rank, scored_trials, worth


class SearchCurve:
    """The trials of a study in the order in which they finished: its steps are finished trials.

    `fitness`, `accuracy` and `mean_fitness` are of trials that were evaluated to the end; the mean is over the latest
    of them, as many as a batch has.

    Args:
        database: of the study.
        study: its name.
        search: the section of the run file, as JSON; what is missing is the default.
        log: likewise.
    """

    def __init__(self, database: Database, study: str, search: Mapping[str, Any], log: Mapping[str, Any]) -> None:
        settings = SearchConfig().model_dump(mode="json") | dict(search)
        self._database, self._study, self._fitness = database, study, settings["fitness"]
        self._trials, self._every = settings["trials"], log.get("search_every", 1)
        self._done = self._failed = 0
        self._best: TrialRecord | None = None
        self._objectives = settings["objectives"] if settings["sampler"] == "nsga2" else ()
        batch = settings["batch" if settings["sampler"] in SAMPLED_IN_BATCHES else "population"]
        self._recent: deque[float] = deque(maxlen=batch)

    def stored(self) -> Iterator[Row]:
        """The points of all trials that have finished so far; further ones come by `add`."""
        storage = TrialStorage(self._database)
        try:
            found = list(storage.outlines(storage.get_study_id_from_name(self._study)))
            records = {record.number: record for record in scored_trials(found)}
        except (KeyError, SearchError):  # there is no such study, or it is of an earlier version
            return
        done = [one for one in found if one.number in records or one.state == TrialState.FAIL]
        for trial in sorted(done, key=_finished):
            yield from self.add(records.get(trial.number), _finished(trial)[0].timestamp())

    def add(self, record: TrialRecord | None, time: float | None = None) -> Iterator[Row]:
        """The point of the trial that has finished now, None of one that failed; nothing where points are left out."""
        self._done += 1
        values: dict[str, float] = {}
        if record is None:
            self._failed += 1
            values["failed"] = float(self._failed)
        else:
            values |= {"trial": float(record.number), "parameters": float(record.parameters)}
            if not record.score.stopped_early:
                fitness = worth(self._fitness, record.score)
                self._recent.append(fitness)
                values |= {"fitness": fitness} | _accuracy("accuracy", record)
                values |= {name: record.value(name) for name in self._objectives}
                better = self._best is None or rank(self._fitness, record) < rank(self._fitness, self._best)
                self._best = record if better else self._best
        if self._best is not None:
            best = self._best
            values |= {"best_fitness": worth(self._fitness, best.score)} | _accuracy("best_accuracy", best)
            values |= {"best_parameters": float(best.parameters)}
            values["mean_fitness"] = sum(self._recent) / len(self._recent)
        if self._done % self._every == 0 or self._done == 1 or self._done >= self._trials:
            yield Row(SEARCH, self._done, values) if time is None else Row(SEARCH, self._done, values, time)


def _accuracy(name: str, record: TrialRecord) -> dict[str, float]:
    """Of a trial, by that name; nothing of numbers."""
    return {name: record.score.accuracy} if record.score.right_or_wrong else {}


def _finished(trial: FrozenTrial) -> tuple[datetime, int]:
    assert trial.datetime_complete is not None
    return trial.datetime_complete, trial.number
