"""Two methods on the same seeds and tasks: what their differences say together."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from glorasearch.statistics.intervals import mean_interval
from glorasearch.statistics.ranks import mid_ranks

DECIMALS: Final = 12
"""Differences of accuracies that agree to so many decimals are equal: 0.3 - 0.2 is no larger than 0.2 - 0.1."""


@dataclass(frozen=True, slots=True)
class PairedRuns:
    """Differences of pairs of runs that have the seed and the task in common: the first method minus the second."""

    differences: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.differences or not all(map(math.isfinite, self.differences)):
            raise ValueError(f"differences {self.differences}; expected at least one, and all of them finite")

    @property
    def pairs(self) -> int:
        """How many there are."""
        return len(self.differences)

    @property
    def mean(self) -> float:
        """Mean difference."""
        return statistics.fmean(self.differences)

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the mean difference by Student's t; None for a single pair."""
        return mean_interval(self.differences)

    @property
    def p_better(self) -> float:
        """One-sided p of Wilcoxon's test that the first method is not better."""
        return wilcoxon_p(self.differences)

    @property
    def p_worse(self) -> float:
        """One-sided p of Wilcoxon's test that the first method is not worse."""
        return wilcoxon_p([-value for value in self.differences])

    @property
    def least_p(self) -> float:
        """The least p that so many pairs can give: that of all differences having one sign."""
        return 0.5**self.pairs


def wilcoxon_p(differences: Sequence[float]) -> float:
    """One-sided p of Wilcoxon's signed-rank test, exact: small if the differences are positive (Wilcoxon 1945).

    The share of all ways to give the observed sizes a sign whose positive ranks sum to at least what was observed.
    Equal sizes share their mean rank, and differences of zero are left out; with ties, too, no approximation is made.
    1 if no difference is left.
    """
    known = [value for value in (round(value, DECIMALS) for value in differences) if value]
    # Mean ranks are halves, so twice a rank is an integer.
    doubled = [round(2 * rank) for rank in mid_ranks([abs(value) for value in known])]
    observed = sum(rank for rank, value in zip(doubled, known, strict=True) if value > 0)
    ways = Counter({0: 1})
    for rank in doubled:
        more = Counter(ways)
        for total, count in ways.items():
            more[total + rank] += count
        ways = more
    reached = sum(count for total, count in ways.items() if total >= observed)
    return float(reached / 2 ** len(known))
