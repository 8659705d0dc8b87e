"""Ranks, and how far two orders agree."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence


def mid_ranks(values: Sequence[float]) -> list[float]:
    """Rank of every value, from 1 for the smallest; equal values share the mean of their ranks."""
    counts, below, ranks = Counter(values), 0, {}
    for value in sorted(counts):
        ranks[value] = below + (counts[value] + 1) / 2
        below += counts[value]
    return [ranks[value] for value in values]


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's tau-b: 1 if two scores order things alike, -1 if in reverse, about 0 if unrelated (Kendall 1945).

    It compares all pairs, so it is for up to some thousand things. NaN if a score is the same for all of them.

    Raises:
        ValueError: if the scores are not of the same things.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} scores; expected two scores of the same things")
    total, untied_first, untied_second = 0, 0, 0
    for index in range(len(first)):
        for other in range(index):
            one = _sign(first[index] - first[other])
            two = _sign(second[index] - second[other])
            total += one * two
            untied_first += one * one
            untied_second += two * two
    pairs = math.sqrt(untied_first * untied_second)
    return total / pairs if pairs else math.nan


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
