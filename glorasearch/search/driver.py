"""The search: ask, skip what was met before, submit, record, tell."""

from __future__ import annotations

import time
from collections.abc import Callable

from glorasearch.db import TrialStorage
from glorasearch.errors import SearchError
from glorasearch.search.asker import Asker, SamplerAsker
from glorasearch.search.breeder import Breeder
from glorasearch.search.config import SearchConfig
from glorasearch.search.early_stopping import make_stopping_rule
from glorasearch.search.executor import Executor
from glorasearch.search.failures import FailureGuard
from glorasearch.search.genome import Genome
from glorasearch.search.ledger import Ledger
from glorasearch.search.outcome import SearchOutcome, SearchProgress
from glorasearch.search.recorder import Recorder
from glorasearch.search.sources import BatchSource, Candidate, Source, SteadySource
from glorasearch.search.study import identity_of, open_study
from glorasearch.space import BoundSpace, EvaluationTask


class SearchDriver:
    """Searches a space; the only writer of its study. A trial draws from its own generator, seeded by (seed, number).

    Generational: trials are made in batches aligned on their numbers: batch k is the numbers from k·B up to (k + 1)·B,
    all of it is sampled before any of it is told, and the next one starts when all of this one have finished. So the
    trials and the winner depend neither on the executor, nor on how many workers it has, nor on where the search was
    cut off and started again.

    Steady: as soon as the executor has room a trial is sampled, of what has finished by then. So the trials depend on
    the order in which evaluations end. Where they end in the order of submission, as in one process, the same seed
    makes the same trials, also when the search is cut off and started again; and with capping the same as without.

    A trial that is certain to be no parent and not the winner is stopped early (`glorasearch.space.early_stopping`)
    and recorded as pruned, with its bound. What its threshold comes from depends on numbers only,
    or in steady mode on what has finished (`NumberedCaps`, `SteadyCaps`).

    A search that was cut off, however, goes on when `run` is called again with the same study: a trial without its
    subnet is sampled, one without its scores is submitted again under the same number, before new ones. That holds for
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
        self._recorder = Recorder(storage, self._ledger, config, on_progress)
        self._failures = FailureGuard(config)

    def run(self) -> SearchOutcome:
        """Make the trials that are not there yet, and name the best of all.

        Raises:
            SearchError: if too many evaluations fail, or none succeeds; the message gives the commonest reason.
            RunError: if the executor cannot go on.
            RunLockedError: if another live process searches this study.
        """
        with self._storage.lock_study(self._study_name):
            return self._run()

    def _run(self) -> SearchOutcome:
        started = time.perf_counter()
        config, ledger = self._config, Ledger(self._config.fitness)
        ledger.load(self._storage.outlines(self._study_id), self._genome)
        self._ledger = ledger
        self._recorder = Recorder(self._storage, ledger, config, self._on_progress)
        self._failures = FailureGuard(config)
        caps = make_stopping_rule(config, ledger, in_order=self._executor.in_order)
        make_asker: type[Asker] = Breeder if config.sampler == "evolution" else SamplerAsker
        asker = make_asker(self._genome, self._storage, self._study_name, config, ledger)
        if config.steady:
            self._evaluate(SteadySource(config.trials, asker, ledger, caps))
        else:
            for first in range(0, config.trials, config.batch_size):
                numbers = range(first, min(first + config.batch_size, config.trials))
                asker.ask(numbers)
                self._failures.begin(len(numbers))
                running = [ledger.running[number] for number in numbers if number in ledger.running]
                self._evaluate(BatchSource(running, caps))
        return self._outcome(time.perf_counter() - started)

    def _evaluate(self, source: Source) -> None:
        """Get the scores of what a source gives; a subnet that it gives more than once is evaluated once."""
        under_way: dict[str, Candidate] = {}
        twins: dict[str, list[Candidate]] = {}
        while True:
            while len(under_way) < self._executor.capacity and (candidate := source.next()) is not None:
                trial = candidate.trial
                if (known := self._ledger.evaluated(trial.digest)) is not None:
                    self._recorder.reuse(trial, known)
                elif trial.digest in under_way:
                    twins.setdefault(trial.digest, []).append(candidate)
                else:
                    self._submit(candidate)
                    under_way[trial.digest] = candidate
            if not under_way:
                return
            result = self._executor.next_result()
            finished = under_way.pop(result.subnet_digest, None)
            if finished is None:  # repeated, or asked for before an interrupt: a pure function's result, thrown away
                continue
            source.put_back(twins.pop(result.subnet_digest, []))
            self._failures.count(failed=not self._recorder.record(finished.trial, result))
            self._check_failures()

    def _submit(self, candidate: Candidate) -> None:
        subnet = candidate.trial.subnet
        self._executor.submit(
            EvaluationTask(subnet.to_json(), subnet.digest, self._weights_digest, candidate.threshold)
        )

    def _check_failures(self) -> None:
        exceeded = self._failures.exceeded
        if exceeded is not None:
            failed, size = exceeded
            raise SearchError(
                f"study {self._study_name!r}: {failed} of {size} evaluations failed, more than the allowed share of "
                f"{self._config.max_failure_share:g}; the commonest reason: {self._ledger.commonest_reason()}. Mend it "
                "and start the search again: it goes on where it was; or raise max_failure_share"
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
            stopped_early=ledger.stopped_early,
            failed=len(ledger.failures),
            images_share=ledger.images_share,
            seconds=seconds,
            evaluation_seconds=sum(record.seconds for record in ledger.records.values()),
            pareto=ledger.pareto_front(),
        )
