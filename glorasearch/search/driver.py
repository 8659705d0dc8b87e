"""The search: sample, reuse scores of duplicate subnets, submit, record."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from glorasearch.db import TrialStorage
from glorasearch.errors import SearchError
from glorasearch.search.config import SearchConfig
from glorasearch.search.costs import make_costs
from glorasearch.search.early_stopping import StoppingRule, make_stopping_rule
from glorasearch.search.evolution import EvolutionSampler
from glorasearch.search.executor import Executor
from glorasearch.search.front import front
from glorasearch.search.history import TrialHistory
from glorasearch.search.objectives import Cost
from glorasearch.search.recorder import Recorder
from glorasearch.search.sampler import OptunaTrialSampler, TrialSampler
from glorasearch.search.starts import choose_starts, closest, load_outside
from glorasearch.search.study import Genome, identity_of, open_study
from glorasearch.search.trial_queue import BatchQueue, SteadyQueue, TrialQueue
from glorasearch.search.trials import RunningTrial, SearchOutcome, SearchProgress
from glorasearch.space import BoundSpace, Subnet


class SearchDriver:
    """Searches a space; the only writer of its study. Each trial draws from a generator seeded by (seed, number).

    Generational: batch k of size B is the trials from k·B up to (k + 1)·B. A whole batch is sampled before any of its
    results is used, though the first of it are evaluated meanwhile, and the next one starts when all of this one have
    finished. So trials and winner depend neither on the executor, nor on its number of workers, nor on where the search
    was interrupted and continued.

    Steady: a trial is sampled as soon as the executor has room, from what has finished so far. So trials depend on the
    order in which evaluations end. Where that is the order of submission, as in one process, the same seed makes the
    same trials, also when the search is interrupted and continued, with early stopping or without.

    A trial that is certain to be neither a parent nor the winner is stopped early (`glorasearch.space.early_stopping`)
    and recorded as pruned, with its bound (`StoppingRule`).

    However a search was interrupted, it continues when `run` is called again with the same study: a trial without its
    subnet is sampled, one without its score is submitted again under the same number, before new ones. That holds for
    `KeyboardInterrupt`, which `run` lets through.

    Args:
        space: what is searched, with its budget.
        storage: where the study lives.
        executor: evaluates the candidates; closed by the caller.
        weights_digest: the supernet's weights in the weight store.
        study_name: names the study; it is created if there is none.
        config: how to search.
        starts: the first trials, by name; as `config.start` says if not given.
        costs: what counts the costs among `config.objectives` that need the model.
        split_digest: the search split's content, part of the study's identity.
        on_progress: called after every trial that finishes.

    Raises:
        SearchSpaceError: if no subnet lies within the budget; the message gives the feasible range.
        ConfigError: if the search cannot start from what `config.start` says, or nothing counts one of its costs.
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
        starts: Mapping[str, Subnet] | None = None,
        costs: Mapping[Cost, Callable[[Subnet], float]] | None = None,
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
        self._costs = make_costs(space, config, costs or {})
        self._starts = choose_starts(space, config, load_outside(config.start)) if starts is None else starts
        identity = identity_of(space, weights_digest, split_digest, config, self._starts)
        self._study_id = open_study(storage, study_name, identity, config)

    def run(self) -> SearchOutcome:
        """Make the trials that are missing, and name the best of all.

        Raises:
            SearchError: if too many evaluations fail, or none succeeds; the message gives the commonest reason.
            RunError: if the executor cannot continue.
            RunLockedError: if another live process searches this study.
        """
        with self._storage.lock_study(self._study_name):
            return self._run()

    def _run(self) -> SearchOutcome:
        started = time.perf_counter()
        config, history = self._config, TrialHistory(self._config.fitness)
        history.load(self._storage.outlines(self._study_id), self._genome)
        recorder = Recorder(self._storage, self._study_name, history, config, self._on_progress)
        rule = make_stopping_rule(config, history, in_order=self._executor.in_order)
        make_sampler: type[TrialSampler] = EvolutionSampler if config.sampler == "evolution" else OptunaTrialSampler
        sampler = make_sampler(
            self._genome, self._storage, self._study_name, config, history, self._starts, self._costs
        )
        if config.steady:
            self._evaluate(SteadyQueue(config.trials, sampler, history, rule), history, recorder, {})
        else:
            for first in range(0, config.trials, config.batch_size):
                numbers = range(first, min(first + config.batch_size, config.trials))
                recorder.begin_batch(len(numbers))
                self._batch(numbers, sampler, rule, history, recorder)
        return self._outcome(history, time.perf_counter() - started)

    def _batch(
        self, numbers: range, sampler: TrialSampler, rule: StoppingRule, history: TrialHistory, recorder: Recorder
    ) -> None:
        """Sample a batch and have it evaluated; as many as the executor takes at once, while the others are sampled.

        No result is looked at in between, so that the trials are those of a batch that is sampled as a whole.
        """
        room = self._executor.capacity
        head, tail = numbers[:room], numbers[room:]
        sampler.sample(head)
        queue = BatchQueue([history.running[number] for number in head if number in history.running], rule)
        under_way: dict[str, RunningTrial] = {}
        held: list[RunningTrial] = []
        while len(under_way) < room and (trial := queue.next()) is not None:
            if trial.subnet.digest in under_way or history.evaluated(trial.subnet.digest) is not None:
                held.append(trial)
            else:
                self._submit(trial, under_way)
        queue.put_back(held)
        sampler.sample(tail)
        queue.add([history.running[number] for number in tail if number in history.running])
        self._evaluate(queue, history, recorder, under_way)

    def _submit(self, trial: RunningTrial, under_way: dict[str, RunningTrial]) -> None:
        self._executor.submit(trial.task(self._weights_digest, self._config.metrics))
        under_way[trial.subnet.digest] = trial

    def _evaluate(
        self, queue: TrialQueue, history: TrialHistory, recorder: Recorder, under_way: dict[str, RunningTrial]
    ) -> None:
        """Have the trials of a queue evaluated; a subnet that it gives more than once is evaluated once.

        `under_way` are those that the executor has already, by the digest of their subnets.
        """
        twins: dict[str, list[RunningTrial]] = {}
        while True:
            while len(under_way) < self._executor.capacity and (trial := queue.next()) is not None:
                digest = trial.subnet.digest
                if (known := history.evaluated(digest)) is not None:
                    recorder.reuse(trial, known)
                elif digest in under_way:
                    twins.setdefault(digest, []).append(trial)
                else:
                    self._submit(trial, under_way)
            if not under_way:
                return
            result = self._executor.next_result()
            finished = under_way.pop(result.subnet_digest, None)
            if finished is None:  # a repeated one, or one submitted before an interrupt: evaluations are pure functions
                continue
            queue.put_back(twins.pop(result.subnet_digest, []))
            recorder.record(finished, result)

    def _outcome(self, history: TrialHistory, seconds: float) -> SearchOutcome:
        best, config = history.best, self._config
        if best is None:
            raise SearchError(
                f"study {self._study_name!r}: none of {len(history.failures)} trials could be evaluated; the commonest "
                f"reason: {history.commonest_reason()}"
            )
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, best.number)
        subnet = self._genome.subnet(self._storage.get_trial(trial_id).params)
        start, share = closest(subnet, {name: self._starts[name] for name in history.starts_of(best)})
        return SearchOutcome(
            study=self._study_name,
            best=best,
            subnet=subnet,
            start=start,
            start_share=share,
            trials=len(history.records) + len(history.failures),
            evaluated=history.evaluations,
            reused=history.reused,
            stopped_early=history.stopped_early,
            failed=len(history.failures),
            images_share=history.images_share,
            seconds=seconds,
            evaluation_seconds=sum(record.score.seconds for record in history.records.values()),
            pareto=front(history.records.values(), config.front),
        )
