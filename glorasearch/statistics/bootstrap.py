"""The bootstrap over images: how often each was drawn, and the interval of a number that these counts decide."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.integer[Any]]
Statistic: TypeAlias = Callable[[Floats], Floats]
"""From counts `(N, r)`, how often each image occurs in each of r samples, to a number for each, `(r,)`; nan where a
sample has none."""

MOST_COUNTS: Final = 2**21
"""Counts that exist at once."""
_TAILS: Final = (2.5, 97.5)


def resampled(images: int, resamples: int, seed: int) -> Iterator[tuple[int, Floats]]:
    """Counts `(N, r)` of so many samples of N images, each drawn N times with replacement, in blocks.

    With each block comes the number of samples before it.

    A sample depends on the seed and its own place only, not on the blocks.
    """
    rng, most = np.random.default_rng(seed), max(1, MOST_COUNTS // images)
    for start in range(0, resamples, most):
        drawn = [
            np.bincount(rng.integers(images, size=images), minlength=images)
            for _ in range(min(most, resamples - start))
        ]
        yield start, np.stack(drawn, axis=1).astype(np.float64)


def bootstrap_interval(value: float, found: Floats, low: float, high: float) -> tuple[float, float] | None:
    """95 % interval of a value from what was found in resamples `(r,)` (Efron 1979).

    Their percentiles, moved by the difference between the value and the mean of the resamples, which a calibration
    error for one is above, and cut at `low` and `high`. None where resamples do not differ: they say nothing then.
    """
    found = found[np.isfinite(found)]
    if len(found) < 2 or np.ptp(found) == 0:
        return None
    below, above = np.percentile(found, _TAILS) - found.mean() + value
    return max(low, float(below)), min(high, float(above))


class Groups:
    """Images in groups, such as those of one label; sums of the counts in each."""

    def __init__(self, of: Ints) -> None:
        """`of` is the group of each image, `(N,)`."""
        self._order = np.argsort(of, kind="stable")
        self.keys, self._starts = np.unique(of[self._order], return_index=True)
        """The groups that have an image, `(G,)`, ascending."""

    def sums(self, counts: Floats) -> Floats:
        """Sums `(G, r)` of counts `(N, r)`."""
        return np.add.reduceat(counts[self._order], self._starts, axis=0)
