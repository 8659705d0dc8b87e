"""Confidence interval of an accuracy."""

from __future__ import annotations

import math

Z95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


def wilson(correct: int, total: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of the accuracy `correct / total`, by default at 95 % (Wilson 1927).

    Unlike the normal approximation it stays within 0 to 1 and is not empty at 0 % or 100 %. It covers the sampling of
    the images only: neither the seed, nor that a winner was selected by that very accuracy.

    Raises:
        ValueError: unless 0 ≤ `correct` ≤ `total` and `total` > 0.
    """
    if not 0 <= correct <= total or total == 0:
        raise ValueError(f"{correct} of {total} is not a proportion")
    share, spread = correct / total, z * z / total
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)
