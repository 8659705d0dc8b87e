"""How far a measured share may be from the true one."""

from __future__ import annotations

import math

Z = 1.959963984540054
"""Two-sided 95 % of a normal distribution."""


def wilson(correct: int, total: int, z: float = Z) -> tuple[float, float]:
    """Wilson's score interval of a share: `correct` of `total` images; 95 % if `z` is not given.

    Unlike the normal approximation it never leaves 0 to 1 and is not empty at 0 % or 100 % (Wilson 1927). It speaks of
    which images happened to be drawn, and of nothing else: neither of the seed, nor of a winner's having been chosen by
    that very share.
    """
    if not 0 <= correct <= total or total == 0:
        raise ValueError(f"{correct} of {total} is no share")
    share, spread = correct / total, z * z / total
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)
