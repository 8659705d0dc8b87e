"""The caps of trials: made of the trials before them, in the order of their numbers, or of all that have finished."""

from __future__ import annotations

from abc import ABC, abstractmethod

from glorasearch.search.config import SearchConfig
from glorasearch.search.elite import Elite, EliteByNumber, EliteOfFinished
from glorasearch.search.fitness import value
from glorasearch.search.ledger import Ledger
from glorasearch.space import StopThreshold


class Caps(ABC):
    """Says, for trial after trial, whether its cap is known yet, and what it is."""

    @abstractmethod
    def known(self, number: int) -> bool:
        """Whether all has finished that the cap of this trial is made of; to be asked in the order of numbers."""

    @abstractmethod
    def cap(self) -> StopThreshold | None:
        """The cap of the trial for which `known` has said that it is, and None if that has none."""


class NoCaps(Caps):
    """Every candidate is evaluated to its end."""

    def known(self, number: int) -> bool:
        """Always."""
        return True

    def cap(self) -> None:
        """None."""


class _EliteCaps(Caps):
    """The fitness of the k-th best; None while there are fewer than k."""

    def __init__(self, config: SearchConfig, ledger: Ledger, elite: Elite) -> None:
        self._fitness = config.fitness
        self._ledger = ledger
        self._elite = elite

    def cap(self) -> StopThreshold | None:
        """The fitness of the k-th best, if there are k."""
        if not self._elite.full:
            return None
        return StopThreshold(self._fitness, value(self._fitness, self._ledger.records[self._elite.numbers[-1]]))


class NumberedCaps(_EliteCaps):
    """Caps that depend on the numbers of trials only.

    The cap of trial n is the fitness of the k-th best of the distinct subnets that trials 0 to n − lag evaluated to the
    end; with no lag, that the trials of the batches before its own did. It depends on nothing else: not on other trials
    that happen to have finished, nor on where the search was cut off.
    """

    def __init__(self, config: SearchConfig, ledger: Ledger, size: int, lag: int | None) -> None:
        self._by_number = EliteByNumber(config.fitness, size, ledger)
        super().__init__(config, ledger, self._by_number)
        self._lag = lag
        self._batch = config.batch_size

    def known(self, number: int) -> bool:
        """Whether the trials have finished that this one's cap is made of."""
        return self._by_number.reach(number - number % self._batch if self._lag is None else number - self._lag + 1)


class SteadyCaps(_EliteCaps):
    """Caps made of all that has finished when a trial is submitted.

    Exact for the reason that `glorasearch.space.early_stopping` gives: the k subnets that are better than the cap
    have finished, and stay so. Whatever is bred later, they rank before the stopped one.
    """

    def __init__(self, config: SearchConfig, ledger: Ledger, size: int) -> None:
        super().__init__(config, ledger, EliteOfFinished(config.fitness, size, ledger))

    def known(self, number: int) -> bool:
        """Always: nothing is waited for."""
        return True


def make_stopping_rule(config: SearchConfig, ledger: Ledger, *, in_order: bool) -> Caps:
    """The caps of a search; `in_order` says that candidates are evaluated one after the other."""
    size = config.kept
    if size is None:
        return NoCaps()
    if config.steady:
        return SteadyCaps(config, ledger, size)
    return NumberedCaps(config, ledger, size, config.lag(in_order=in_order))
