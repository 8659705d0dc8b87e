"""The best k subnets evaluated so far, kept up to date in a few steps per trial."""

from __future__ import annotations

from bisect import insort

from glorasearch.search.history import TrialHistory
from glorasearch.search.trials import Rank, TrialRecord, rank
from glorasearch.space import Fitness


class TopK:
    """The best k distinct subnets that were evaluated to the end, among the trials added to it."""

    def __init__(self, fitness: Fitness, k: int) -> None:
        self._fitness: Fitness = fitness
        self._k = k
        self._best: list[Rank] = []

    def add(self, record: TrialRecord) -> None:
        """Consider a trial; one that was stopped early or reuses another one's score does not count."""
        if record.score.stopped_early or record.reused_from is not None:
            return
        found = rank(self._fitness, record)
        if not self.full or found < self._best[-1]:
            insort(self._best, found)
            del self._best[self._k :]

    @property
    def full(self) -> bool:
        """Whether there are k."""
        return len(self._best) >= self._k

    @property
    def numbers(self) -> tuple[int, ...]:
        """The trials, the best first."""
        return tuple(number for *_, number in self._best)


class TopKByNumber(TopK):
    """The top k of the trials numbered below a bound that only rises; later trials that have finished do not count."""

    def __init__(self, fitness: Fitness, k: int, history: TrialHistory) -> None:
        super().__init__(fitness, k)
        self._history = history
        self._next = 0

    def advance(self, bound: int) -> bool:
        """Add the trials with smaller numbers, as far as they have finished; whether all of them have."""
        history = self._history
        while self._next < bound:
            record = history.records.get(self._next)
            if record is not None:
                self.add(record)
            elif self._next not in history.failures:
                return False
            self._next += 1
        return True


class TopKFinished(TopK):
    """The top k of whatever has finished."""

    def __init__(self, fitness: Fitness, k: int, history: TrialHistory) -> None:
        super().__init__(fitness, k)
        for record in history.records.values():
            self.add(record)
        history.listeners.append(self.add)
