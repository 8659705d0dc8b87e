"""What the best of many random draws has by chance, judged from some of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Final

SIMULATED: Final = 20_000
"""Simulated bests; the quantiles then have an error of about a hundredth of a standard deviation of the scores."""
LEAST_SCORES: Final = 8
"""With fewer scores their spread is hardly known, and the band too wide to say anything."""
RARE: Final = 0.025
"""On either side of the band."""
_SEED: Final = 1945_80
_NORMAL: Final = statistics.NormalDist()


@dataclass(frozen=True, kw_only=True, slots=True)
class BestByChance:
    """The best score that so many random draws have by chance, and how a score that was found compares with it."""

    scores: int
    """Random scores that it is judged by."""
    mean: float
    std: float
    """Sample standard deviation of the scores."""
    draws: int
    expected: float
    """Mean of the best of so many draws."""
    low: float
    """Lower end of its 95 % band."""
    high: float
    p: float
    """How often the best of so many draws is at least as good as what was found."""
    worse: bool
    """Whether the best of so many draws is as bad as what was found in at most `RARE` of all cases, whatever the
    distribution of scores is."""


def best_by_chance(
    scores: Sequence[float], draws: int, found: float, *, lower_is_better: bool = False, limit: float | None = None
) -> BestByChance:
    """Predict the best of random draws from the scores of others that were drawn alike.

    Scores are taken as normal, since the best of hundreds lies beyond the few that are known. That mean and spread come
    from a few scores is part of the band: it is the predictive distribution of the best of `draws` new ones (mean and
    variance as in Student's t), simulated with a fixed seed. Where scores have a long tail of bad ones, their standard
    deviation exaggerates what chance can do, so that the claim "better than chance" is made too rarely, not too often.
    By that band "worse" would be claimed too often: `worse` is judged by ranks. All of the k best of n + N scores are
    among the n known ones with probability C(n, k) / C(n + N, k), which is how often the best of N draws is worse than
    the k-th best known one.

    Args:
        scores: of random draws, at least `LEAST_SCORES`.
        draws: how many have been tried, of which the best was kept.
        found: the score of what was kept.
        lower_is_better: whether the best is the lowest.
        limit: the best possible score, such as 1 for an accuracy.

    Raises:
        ValueError: if there are too few scores, one of them is not finite, or `draws` is not at least 1.
    """
    if len(scores) < LEAST_SCORES or draws < 1 or not all(map(math.isfinite, scores)):
        raise ValueError(f"{len(scores)} scores, {draws} draws: expected {LEAST_SCORES} finite scores and a draw")
    sign = -1.0 if lower_is_better else 1.0
    mean, std = statistics.fmean(scores), statistics.stdev(scores)
    best = [sign * mean + std * factor for factor in _simulated(len(scores), draws)]
    if limit is not None:
        best = [min(value, sign * limit) for value in best]
    low, high = (sign * best[round(share * (SIMULATED - 1))] for share in (RARE, 1 - RARE))
    reached = sum(value >= sign * found for value in best)
    return BestByChance(
        scores=len(scores),
        mean=mean,
        std=std,
        draws=draws,
        expected=sign * statistics.fmean(best),
        low=min(low, high),
        high=max(low, high),
        p=(1 + reached) / (1 + SIMULATED),
        worse=_is_worse([sign * score for score in scores], draws, sign * found),
    )


def _is_worse(scores: Sequence[float], draws: int, found: float) -> bool:
    """Of scores that are better the higher they are."""
    share, count = 1.0, len(scores)
    for place, score in enumerate(sorted(scores, reverse=True)):
        share *= (count - place) / (count + draws - place)
        if share <= RARE:
            return found < score
    return False


@lru_cache(maxsize=32)
def _simulated(scores: int, draws: int) -> tuple[float, ...]:
    """(best of the draws − mean of the scores) / their standard deviation, for normal scores, many times; ascending."""
    rng, freedom = Random(_SEED), scores - 1
    found = []
    for _ in range(SIMULATED):
        tail = -math.expm1(math.log(1.0 - rng.random()) / draws)  # P(a draw is better than the best)
        best = -_NORMAL.inv_cdf(min(max(tail, 1e-300), 1.0 - 1e-16))
        mean = rng.gauss(0.0, 1.0) / math.sqrt(scores)
        variance = rng.gammavariate(freedom / 2, 2.0) / freedom
        found.append((best - mean) / math.sqrt(variance))
    return tuple(sorted(found))
