"""The search: ask, skip what was met before, submit, record, tell."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from optuna.trial import TrialState

from glorasearch.db import Evaluation, TrialStorage
from glorasearch.errors import SearchError
from glorasearch.search.asker import Asker
from glorasearch.search.caps import Caps
from glorasearch.search.config import SearchConfig
from glorasearch.search.executor import Executor
from glorasearch.search.fitness import value
from glorasearch.search.genome import Genome
from glorasearch.search.ledger import Ledger, RunningTrial
from glorasearch.search.outcome import SearchOutcome, SearchProgress
from glorasearch.search.record import REASON, TrialRecord, failure_of
from glorasearch.search.study import identity_of, open_study
from glorasearch.space import BoundSpace, EvaluationResult, EvaluationTask

FAILURE_WINDOW: Final = 10
"""The fewest trials of which a share of failures is taken."""


class SearchDriver:
    """Searches a space; the only writer of its study.

    Trials are made in batches aligned on their numbers: batch k is the numbers from k·B up to (k + 1)·B, all of it is
    sampled before any of it is told, and the next one starts when all of this one have finished. Each trial draws from
    a generator of its own, seeded by (seed, number). So the trials and the winner depend neither on the executor, nor
    on how many workers it has, nor on where the search was cut off and started again.

    A trial that is certain to be no parent and not the winner is stopped early (`glorasearch.space.cap`) and recorded
    as pruned, with its bound. The cap is made of trials before it in a way that depends on their numbers only (`Caps`).

    A search that was cut off, however, goes on when `run` is called again with the same study: a trial without its
    subnet is sampled, one without its scores is submitted again under the same number. That holds for
    `KeyboardInterrupt`, which `run` lets through.

    Args:
        space: what is searched, with its budget.
        storage: where the study lives.
        executor: evaluates the candidates; closed by the caller.
        weights_digest: the supernet's weights in the weight store.
        study_name: names the study; it is made if there is none.
        config: how to search.
        split_digest: the search split's content, part of the study's identity.
        on_progress: called after every trial that finishes.

    Raises:
        SearchSpaceError: if no subnet lies within the budget; the message gives the feasible range.
        SearchError: if the study of that name searches something else; the message says what differs.
    """

    Config = SearchConfig

    def __init__(
        self,
        space: BoundSpace,
        storage: TrialStorage,
        executor: Executor,
        weights_digest: str,
        study_name: str,
        config: SearchConfig,
        *,
        split_digest: str = "",
        on_progress: Callable[[SearchProgress], None] | None = None,
    ) -> None:
        space.check_budget()
        self._storage = storage
        self._executor = executor
        self._weights_digest = weights_digest
        self._study_name = study_name
        self._config = config
        self._on_progress = on_progress
        self._genome = Genome(space)
        self._study_id = open_study(
            storage, study_name, identity_of(space, weights_digest, split_digest, config), config
        )
        self._ledger = Ledger(config.fitness)
        self._caps = Caps(config, self._ledger)
        self._recent: deque[bool] = deque(maxlen=FAILURE_WINDOW)

    def run(self) -> SearchOutcome:
        """Make the trials that are not there yet, and name the best of all.

        Raises:
            SearchError: if too many evaluations fail, or none succeeds; the message gives the commonest reason.
            JobError: if the executor cannot go on.
            RunLockedError: if another live process searches this study.
        """
        with self._storage.lock_study(self._study_name):
            return self._run()

    def _run(self) -> SearchOutcome:
        started = time.perf_counter()
        self._ledger = Ledger(self._config.fitness)
        self._ledger.load(self._storage.get_all_trials(self._study_id, deepcopy=False), self._genome)
        self._caps = Caps(self._config, self._ledger)
        self._recent.clear()
        asker = Asker(self._genome, self._storage, self._study_name, self._config)
        size, trials = self._config.batch_size, self._config.trials
        for first in range(0, trials, size):
            numbers = range(first, min(first + size, trials))
            asker.ask(numbers, self._ledger)
            self._evaluate(numbers)
        return self._outcome(time.perf_counter() - started)

    def _evaluate(self, numbers: Sequence[int]) -> None:
        """Get the scores of a batch; a subnet that stands in it more than once is evaluated once."""
        running = self._ledger.running
        queue = deque(running[number] for number in numbers if number in running)
        under_way: dict[str, RunningTrial] = {}
        twins: dict[str, list[RunningTrial]] = {}
        failed = 0
        while queue or under_way:
            while queue and len(under_way) < self._executor.capacity and self._caps.known(queue[0].number):
                trial = queue.popleft()
                cap = self._caps.cap(trial.number)
                if (known := self._ledger.evaluated(trial.digest)) is not None:
                    self._reuse(trial, known)
                elif trial.digest in under_way:
                    twins.setdefault(trial.digest, []).append(trial)
                else:
                    task = EvaluationTask(trial.subnet.to_json(), trial.digest, self._weights_digest, cap)
                    self._executor.submit(task)
                    under_way[trial.digest] = trial
            if not under_way:
                continue
            result = self._executor.next_result()
            finished = under_way.pop(result.subnet_digest, None)
            if finished is None:  # repeated, or asked for before an interrupt: a pure function's result, thrown away
                continue
            queue.extendleft(reversed(twins.pop(result.subnet_digest, [])))
            failed += not self._record(finished, result)
            self._check_failures(failed, len(numbers))

    def _record(self, trial: RunningTrial, result: EvaluationResult) -> bool:
        """Store a result; whether it is a success."""
        reason = failure_of(result)
        self._recent.append(reason is not None)
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
        record = TrialRecord.from_evaluation(trial.number, evaluation)
        self._finish(trial, record, evaluation)
        return True

    def _reuse(self, trial: RunningTrial, known: TrialRecord) -> None:
        record = replace(known, number=trial.number, seconds=0.0, reused_from=known.number)
        self._finish(trial, record, None)

    def _finish(self, trial: RunningTrial, record: TrialRecord, evaluation: Evaluation | None) -> None:
        state = TrialState.PRUNED if record.capped else TrialState.COMPLETE
        if self._config.sampler == "nsga2":
            values = [record.accuracy, float(record.parameters)]
        else:
            values = [value(self._config.fitness, record)]
        self._storage.finish_trial(trial.trial_id, state, values, record.to_attrs(), evaluation)
        self._ledger.add(record)
        self._report()

    def _check_failures(self, failed: int, size: int) -> None:
        """Stop a search that fails too often; a batch too small for a share is judged by the last evaluations."""
        share = self._config.max_failure_share
        if size < FAILURE_WINDOW:
            failed, size = sum(self._recent), FAILURE_WINDOW
            if failed < size:
                return
        if failed > share * size:
            raise SearchError(
                f"study {self._study_name!r}: {failed} of {size} evaluations failed, more than the allowed share of "
                f"{share:g}; the commonest reason: {self._ledger.commonest_reason()}. Mend it and start the search "
                "again: it goes on where it was; or raise max_failure_share"
            )

    def _report(self) -> None:
        if self._on_progress is None:
            return
        ledger = self._ledger
        self._on_progress(
            SearchProgress(
                trials=self._config.trials,
                evaluated=ledger.evaluations,
                reused=ledger.reused,
                capped=ledger.capped,
                failed=len(ledger.failures),
                best=ledger.best,
                best_fitness=None if ledger.best is None else value(self._config.fitness, ledger.best),
            )
        )

    def _outcome(self, seconds: float) -> SearchOutcome:
        ledger = self._ledger
        best = ledger.best
        if best is None:
            raise SearchError(
                f"study {self._study_name!r}: none of {len(ledger.failures)} trials could be evaluated; the commonest "
                f"reason: {ledger.commonest_reason()}"
            )
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, best.number)
        return SearchOutcome(
            study=self._study_name,
            best=best,
            subnet=self._genome.subnet(self._storage.get_trial(trial_id).params),
            trials=len(ledger.records) + len(ledger.failures),
            evaluated=ledger.evaluations,
            reused=ledger.reused,
            capped=ledger.capped,
            failed=len(ledger.failures),
            images_share=ledger.images_share,
            seconds=seconds,
            evaluation_seconds=sum(record.seconds for record in ledger.records.values()),
            pareto=ledger.pareto_front(),
        )
