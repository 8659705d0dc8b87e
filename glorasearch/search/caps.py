"""The caps of trials: made of the trials before them, in the order of their numbers."""

from __future__ import annotations

from bisect import insort

from glorasearch.search.config import SearchConfig
from glorasearch.search.fitness import Rank, rank, value
from glorasearch.search.ledger import Ledger
from glorasearch.space import Cap


class Caps:
    """Says, for trial after trial, whether its cap is known yet, and what it is.

    The cap of trial n is the fitness of the k-th best of the distinct subnets that trials 0 to n − lag evaluated to the
    end; there is none while they are fewer than k. It depends on nothing else: not on other trials that happen to have
    finished, nor on where the search was cut off.
    """

    def __init__(self, config: SearchConfig, ledger: Ledger) -> None:
        self._fitness = config.fitness
        self._count = config.capped_beyond
        self._lag = config.capping_lag
        self._ledger = ledger
        self._taken = 0
        """Trials with a smaller number are in `_best`, or do not count."""
        self._given: dict[int, Cap | None] = {}
        self._best: list[Rank] = []
        """The k best."""

    def known(self, number: int) -> bool:
        """Whether all has finished that the cap of this trial is made of; to be asked in the order of numbers."""
        if self._count is None:
            return True
        ledger = self._ledger
        while self._taken <= number - self._lag:
            record = ledger.records.get(self._taken)
            if record is None and self._taken not in ledger.failures:
                return False
            if record is not None and not record.capped and record.reused_from is None:
                insort(self._best, rank(self._fitness, record))
                del self._best[self._count :]
            self._taken += 1
        return True

    def cap(self, number: int) -> Cap | None:
        """The cap of a trial, once `known` has said that it is; it stays what it was when it was asked for first."""
        if number not in self._given:
            self._given[number] = self._now()
        return self._given[number]

    def _now(self) -> Cap | None:
        if self._count is None or len(self._best) < self._count:
            return None
        worst = self._ledger.records[self._best[-1][-1]]
        return Cap(self._fitness, value(self._fitness, worst))
