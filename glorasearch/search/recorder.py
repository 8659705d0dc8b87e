"""Records the results of trials, and ends the search when too many of them fail."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from optuna.trial import TrialState

from glorasearch.db import TrialStorage
from glorasearch.errors import SearchError
from glorasearch.search.config import SearchConfig
from glorasearch.search.history import TrialHistory
from glorasearch.search.trials import REASON, RunningTrial, SearchProgress, TrialRecord, worth
from glorasearch.space import EvaluationResult

WINDOW: Final = 10
"""The smallest number of evaluations that a share of failures is taken of."""


class Recorder:
    """Finishes trials in the storage and in the history, and reports the progress."""

    def __init__(
        self,
        storage: TrialStorage,
        study_name: str,
        history: TrialHistory,
        config: SearchConfig,
        on_progress: Callable[[SearchProgress], None] | None,
    ) -> None:
        self._storage = storage
        self._study_name = study_name
        self._history = history
        self._config = config
        self._on_progress = on_progress
        self._failures = FailureGuard(config)

    def begin_batch(self, size: int) -> None:
        """From here on failures are a share of `size` evaluations."""
        self._failures.begin_batch(size)

    def record(self, trial: RunningTrial, result: EvaluationResult) -> None:
        """Store the result of a trial.

        Raises:
            SearchError: if too many evaluations have failed; the message gives the commonest reason.
        """
        failure = result.failure
        if failure is None:
            assert result.score is not None
            self._finish(trial, trial.scored(result.score))
        else:
            self._storage.finish_trial(trial.trial_id, TrialState.FAIL, None, {REASON: failure})
            self._history.fail(trial.number, failure)
            self._report()
        self._failures.count(failed=failure is not None)
        exceeded = self._failures.exceeded
        if exceeded is not None:
            raise SearchError(
                f"study {self._study_name!r}: {exceeded[0]} of {exceeded[1]} evaluations failed, more than the allowed "
                f"share of {self._config.max_failure_share:g}; the commonest reason: "
                f"{self._history.commonest_reason()}. Fix it and start the search again, which continues where it "
                "stopped; or raise max_failure_share"
            )

    def reuse(self, trial: RunningTrial, known: TrialRecord) -> None:
        """Store the score of the trial that evaluated the same subnet before."""
        self._finish(trial, trial.scored(replace(known.score, seconds=0.0), reused_from=known.number))

    def _finish(self, trial: RunningTrial, record: TrialRecord) -> None:
        state = TrialState.PRUNED if record.score.stopped_early else TrialState.COMPLETE
        values = [record.value(name) for name in self._config.optimised]
        self._storage.finish_trial(trial.trial_id, state, values, record.to_attrs())
        self._history.add(record)
        self._report(record)

    def _report(self, latest: TrialRecord | None = None) -> None:
        if self._on_progress is None:
            return
        history = self._history
        self._on_progress(
            SearchProgress(
                trials=self._config.trials,
                evaluated=history.evaluations,
                reused=history.reused,
                stopped_early=history.stopped_early,
                failed=len(history.failures),
                best=history.best,
                best_fitness=None if history.best is None else worth(self._config.fitness, history.best.score),
                latest=latest,
            )
        )


class FailureGuard:
    """Counts failed evaluations: of each batch, or in steady mode of as many of the latest ones as a batch has.

    A batch of fewer than 10 trials is judged by the latest 10 evaluations, all of which must have failed. And if the
    first 10 evaluations of a search fail, the others are not waited for.
    """

    def __init__(self, config: SearchConfig) -> None:
        self._share = config.max_failure_share
        self._latest: deque[bool] = deque(maxlen=WINDOW)
        self._window: deque[bool] = deque(maxlen=max(WINDOW, config.batch_size))
        self._size = max(WINDOW, config.batch_size)
        self._succeeded = False

    def begin_batch(self, size: int) -> None:
        """A batch of `size` trials begins."""
        self._window.clear()
        self._size = size

    def count(self, *, failed: bool) -> None:
        """An evaluation has ended."""
        self._succeeded = self._succeeded or not failed
        self._latest.append(failed)
        self._window.append(failed)

    @property
    def exceeded(self) -> tuple[int, int] | None:
        """(failures, evaluations that they are a share of) if that is more than allowed."""
        if not self._succeeded and len(self._latest) == WINDOW and self._share < 1:
            return WINDOW, WINDOW
        failed, size = sum(self._window), self._size
        if size < WINDOW:
            failed, size = sum(self._latest), WINDOW
            if failed < size:
                return None
        return (failed, size) if failed > self._share * size else None
