"""Writes down what became of a trial: in the study, in the ledger, and to whom it is reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from optuna.trial import TrialState

from glorasearch.db import Evaluation, TrialStorage
from glorasearch.search.config import SearchConfig
from glorasearch.search.fitness import value
from glorasearch.search.ledger import Ledger, RunningTrial
from glorasearch.search.outcome import SearchProgress
from glorasearch.search.record import REASON, TrialRecord, failure_of
from glorasearch.space import EvaluationResult


class Recorder:
    """Finishes trials, each in one transaction with its evaluation."""

    def __init__(
        self,
        storage: TrialStorage,
        ledger: Ledger,
        config: SearchConfig,
        on_progress: Callable[[SearchProgress], None] | None,
    ) -> None:
        self._storage = storage
        self._ledger = ledger
        self._config = config
        self._on_progress = on_progress

    def record(self, trial: RunningTrial, result: EvaluationResult) -> bool:
        """Store a result; whether it is a success."""
        reason = failure_of(result)
        if reason is not None:
            self._storage.finish_trial(trial.trial_id, TrialState.FAIL, None, {REASON: reason})
            self._ledger.fail(trial.number, reason)
            self._report()
            return False
        evaluation = Evaluation(
            subnet_digest=trial.digest,
            parameters=trial.parameters,
            correct=result.correct,
            total=result.total,
            cross_entropy=result.cross_entropy,
            seconds=result.seconds,
            bound=result.bound,
            stopped_after=result.stopped_after,
        )
        self._finish(trial, TrialRecord.from_evaluation(trial.number, evaluation), evaluation)
        return True

    def reuse(self, trial: RunningTrial, known: TrialRecord) -> None:
        """Store the scores of a trial that evaluated the same subnet before."""
        self._finish(trial, replace(known, number=trial.number, seconds=0.0, reused_from=known.number), None)

    def _finish(self, trial: RunningTrial, record: TrialRecord, evaluation: Evaluation | None) -> None:
        state = TrialState.PRUNED if record.stopped_early else TrialState.COMPLETE
        if self._config.sampler == "nsga2":
            values = [record.accuracy, float(record.parameters)]
        else:
            values = [value(self._config.fitness, record)]
        self._storage.finish_trial(trial.trial_id, state, values, record.to_attrs(), evaluation)
        self._ledger.add(record)
        self._report()

    def _report(self) -> None:
        if self._on_progress is None:
            return
        ledger = self._ledger
        self._on_progress(
            SearchProgress(
                trials=self._config.trials,
                evaluated=ledger.evaluations,
                reused=ledger.reused,
                stopped_early=ledger.stopped_early,
                failed=len(ledger.failures),
                best=ledger.best,
                best_fitness=None if ledger.best is None else value(self._config.fitness, ledger.best),
            )
        )
