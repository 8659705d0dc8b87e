"""The stop threshold of every trial: from the trials before it by number, or from all that have finished."""

from __future__ import annotations

from glorasearch.search.config import SearchConfig
from glorasearch.search.history import TrialHistory
from glorasearch.search.top_k import TopK, TopKByNumber, TopKFinished
from glorasearch.search.trials import worth
from glorasearch.space import StopThreshold


class StoppingRule:
    """Says when a trial may be submitted, and with which stop threshold. This one never stops a trial."""

    def ready(self, number: int) -> bool:
        """Whether all trials that this one's threshold comes from have finished; asked in the order of numbers."""
        return True

    def threshold(self) -> StopThreshold | None:
        """The threshold of the trial that `ready` was last asked for; None to evaluate it to the end."""
        return None


class _TopKRule(StoppingRule):
    """The threshold is the fitness of the k-th best trial; there is none while there are fewer than k."""

    def __init__(self, config: SearchConfig, history: TrialHistory, top_k: TopK) -> None:
        self._fitness = config.fitness
        self._history = history
        self._top_k = top_k

    def threshold(self) -> StopThreshold | None:
        """The fitness of the k-th best trial, if there are k."""
        if not self._top_k.full:
            return None
        record = self._history.records[self._top_k.numbers[-1]]
        return StopThreshold(self._fitness, worth(self._fitness, record.score))


class NumberedRule(_TopKRule):
    """Thresholds that depend only on the numbers of trials.

    The threshold of trial n is the fitness of the k-th best distinct subnet that trials 0 to n − lag evaluated to the
    end; without a lag, that the trials of the batches before its own did. It depends neither on which other trials
    happen to have finished nor on where the search was interrupted.
    """

    def __init__(self, config: SearchConfig, history: TrialHistory, k: int, lag: int | None) -> None:
        self._by_number = TopKByNumber(config.fitness, k, history)
        super().__init__(config, history, self._by_number)
        self._lag = lag
        self._batch = config.batch_size

    def ready(self, number: int) -> bool:
        """Whether all trials that this one's threshold comes from have finished."""
        bound = number - number % self._batch if self._lag is None else number - self._lag + 1
        return self._by_number.advance(bound)


class FinishedRule(_TopKRule):
    """Thresholds from all trials that have finished when one is submitted; nothing is waited for.

    Exact for the reason given in `glorasearch.space.early_stopping`: the k subnets at least as good as the threshold
    have finished, and stay so. Whatever is bred later, they rank before the trial that was stopped.
    """

    def __init__(self, config: SearchConfig, history: TrialHistory, k: int) -> None:
        super().__init__(config, history, TopKFinished(config.fitness, k, history))


def make_stopping_rule(config: SearchConfig, history: TrialHistory, *, in_order: bool) -> StoppingRule:
    """The stopping rule of a search; `in_order` says that candidates are evaluated one after the other."""
    k = config.kept
    if k is None:
        return StoppingRule()
    if config.steady:
        return FinishedRule(config, history, k)
    return NumberedRule(config, history, k, config.lag(in_order=in_order))
