"""What a set of items that is drawn at random would have, feature by feature."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

LEVEL: Final = 0.05
"""Probability that any feature of a random set is outside its band, at most."""
_BEYOND: Final = 20
"""Draws beyond each end of a band, which say how well the end is known."""


def subset_band(
    features: NDArray[np.float64], kept: int, level: float = LEVEL
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """The band of each feature's mean over `kept` items that are drawn at random, without replacement.

    Items keep their features together, so that features may depend on each other in any way. The probability that
    some feature is outside is at most `level` over all draws (Bonferroni, over features and both sides): ends are order
    statistics of as many draws as leave 20 beyond each.

    Args:
        features: of each item, `[items, features]`; whole numbers have exact sums.
        kept: items of a set.
        level: as above.

    Returns:
        The lower ends, the upper ends, both of them inside, and the number of draws.
    """
    items, count = features.shape
    tail = level / 2 / max(1, count)
    draws = int(np.ceil(_BEYOND / tail)) - 1  # the chance of an end is then 20 / (draws + 1) <= tail
    sets = _sets(items, kept, draws)
    low, high = np.empty(count), np.empty(count)
    for column in range(count):
        sums = np.sort(features[:, column][sets].sum(1))
        low[column], high[column] = sums[_BEYOND - 1] / kept, sums[draws - _BEYOND] / kept
    return low, high, draws


def _sets(items: int, kept: int, draws: int) -> NDArray[np.int64]:
    """Sets without repetition, each as likely as any other, `[draws, kept]` (Floyd's algorithm)."""
    rng = np.random.default_rng(0)
    found = np.empty((draws, kept), np.int64)
    for place, last in enumerate(range(items - kept, items)):
        drawn = rng.integers(0, last + 1, draws)
        taken = (found[:, :place] == drawn[:, None]).any(1)
        found[:, place] = np.where(taken, last, drawn)
    return found
