"""The best subnets that were evaluated so far, kept up to date in a few steps a trial."""

from __future__ import annotations

from bisect import insort

from glorasearch.search.fitness import Fitness, Rank, rank
from glorasearch.search.ledger import Ledger
from glorasearch.search.record import TrialRecord


class Elite:
    """The k best of the distinct subnets that were evaluated to the end, among the trials that it was shown."""

    def __init__(self, fitness: Fitness, size: int) -> None:
        self._fitness: Fitness = fitness
        self._size = size
        self._best: list[Rank] = []

    def take(self, record: TrialRecord) -> None:
        """Look at a trial; capped ones and those that reuse another one's scores do not count."""
        if record.stopped_early or record.reused_from is not None:
            return
        found = rank(self._fitness, record)
        if not self.full or found < self._best[-1]:
            insort(self._best, found)
            del self._best[self._size :]

    @property
    def full(self) -> bool:
        """Whether there are k."""
        return len(self._best) >= self._size

    @property
    def numbers(self) -> tuple[int, ...]:
        """The trials, the best first."""
        return tuple(number for *_, number in self._best)


class EliteByNumber(Elite):
    """The elite of the trials with numbers below a bound that only rises: it does not depend on what else finished."""

    def __init__(self, fitness: Fitness, size: int, ledger: Ledger) -> None:
        super().__init__(fitness, size)
        self._ledger = ledger
        self._next = 0

    def reach(self, bound: int) -> bool:
        """Take in all trials with a smaller number, as far as they have finished; whether all have."""
        ledger = self._ledger
        while self._next < bound:
            record = ledger.records.get(self._next)
            if record is not None:
                self.take(record)
            elif self._next not in ledger.failures:
                return False
            self._next += 1
        return True


class EliteOfFinished(Elite):
    """The elite of whatever has finished."""

    def __init__(self, fitness: Fitness, size: int, ledger: Ledger) -> None:
        super().__init__(fitness, size)
        for record in ledger.records.values():
            self.take(record)
        ledger.followers.append(self.take)
