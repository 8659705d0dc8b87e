"""Which trial is evaluated next: one of a batch that was sampled as a whole, or a new one sampled on demand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence

from glorasearch.search.early_stopping import StoppingRule
from glorasearch.search.history import TrialHistory
from glorasearch.search.sampler import TrialSampler
from glorasearch.search.trials import RunningTrial


class TrialQueue(ABC):
    """Gives trials to be evaluated, one by one, each with its stop threshold set."""

    def __init__(self, rule: StoppingRule) -> None:
        self._rule = rule
        self._returned: deque[RunningTrial] = deque()

    def next(self) -> RunningTrial | None:
        """The next trial; None if another one must finish first, or if there are no more."""
        if self._returned:
            return self._returned.popleft()
        trial = self._next()
        if trial is not None:
            trial.threshold = self._rule.threshold()
        return trial

    def put_back(self, trials: Sequence[RunningTrial]) -> None:
        """Give these first, in this order, with the thresholds that they have."""
        self._returned.extendleft(reversed(trials))

    @abstractmethod
    def _next(self) -> RunningTrial | None:
        """The next trial whose threshold can be set."""


class BatchQueue(TrialQueue):
    """The trials of a batch by number, each once the trials that its threshold comes from have finished."""

    def __init__(self, trials: Sequence[RunningTrial], rule: StoppingRule) -> None:
        super().__init__(rule)
        self._trials = deque(trials)

    def add(self, trials: Sequence[RunningTrial]) -> None:
        """Trials of the same batch, with higher numbers."""
        self._trials.extend(trials)

    def _next(self) -> RunningTrial | None:
        return self._trials.popleft() if self._trials and self._rule.ready(self._trials[0].number) else None


class SteadyQueue(TrialQueue):
    """Interrupted trials first; then new ones, each sampled when it is asked for, from what has finished so far."""

    def __init__(self, trials: int, sampler: TrialSampler, history: TrialHistory, rule: StoppingRule) -> None:
        super().__init__(rule)
        self._sampler = sampler
        self._history = history
        self._interrupted = deque(sorted(number for number in history.running if number < trials))
        self._new = (number for number in range(trials) if not history.sampled(number))

    def _next(self) -> RunningTrial | None:
        number = self._interrupted.popleft() if self._interrupted else next(self._new, None)
        if number is None:
            return None
        self._sampler.sample([number])
        return self._history.running[number]
