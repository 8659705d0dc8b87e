"""Where the next candidate comes from: a batch that was sampled as a whole, or one child after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from glorasearch.search.asker import Asker
from glorasearch.search.early_stopping import Caps
from glorasearch.search.ledger import Ledger, RunningTrial
from glorasearch.space import StopThreshold


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trial that is to be evaluated."""

    trial: RunningTrial
    threshold: StopThreshold | None


class Source(ABC):
    """Gives candidates, one by one."""

    def __init__(self, caps: Caps) -> None:
        self._caps = caps
        self._first: deque[Candidate] = deque()

    def next(self) -> Candidate | None:
        """The next candidate; None if there is none until another trial has finished, or at all."""
        if self._first:
            return self._first.popleft()
        trial = self._trial()
        return None if trial is None else Candidate(trial, self._caps.cap())

    def put_back(self, candidates: Sequence[Candidate]) -> None:
        """Give these first, in this order, with the caps that they had."""
        self._first.extendleft(reversed(candidates))

    @abstractmethod
    def _trial(self) -> RunningTrial | None:
        """The next trial whose cap is known."""


class BatchSource(Source):
    """The trials of a batch by number, each when its cap is known."""

    def __init__(self, trials: Sequence[RunningTrial], caps: Caps) -> None:
        super().__init__(caps)
        self._trials = deque(trials)

    def _trial(self) -> RunningTrial | None:
        return self._trials.popleft() if self._trials and self._caps.known(self._trials[0].number) else None


class SteadySource(Source):
    """What was cut off first; then new trials, each sampled when it is asked for, of what has finished by then."""

    def __init__(self, trials: int, asker: Asker, ledger: Ledger, caps: Caps) -> None:
        super().__init__(caps)
        self._asker = asker
        self._ledger = ledger
        self._again = deque(sorted(number for number in ledger.running if number < trials))
        self._new = (number for number in range(trials) if not ledger.sampled(number))

    def _trial(self) -> RunningTrial | None:
        number = self._again.popleft() if self._again else next(self._new, None)
        if number is None:
            return None
        self._asker.ask([number])
        self._caps.known(number)
        return self._ledger.running[number]
