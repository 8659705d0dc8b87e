"""Two models on the same images: which of them is right where the other is wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from glorasearch.statistics.intervals import Z95

LEVEL: Final = 0.05
"""A difference whose p is below is called one."""
BISECTIONS: Final = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedImages:
    """How often two models are right on the same images: the first and the second one.

    Only images that one of them misses tell them apart.
    """

    images: int
    both: int
    """Images that both classify correctly."""
    only_first: int
    """Images that the first classifies correctly and the second does not."""
    only_second: int

    def __post_init__(self) -> None:
        if min(self.both, self.only_first, self.only_second) < 0 or self.both + self.discordant > self.images:
            raise ValueError(f"{self} does not count {self.images} images")

    @property
    def discordant(self) -> int:
        """Images that exactly one of them classifies correctly."""
        return self.only_first + self.only_second

    @property
    def difference(self) -> float:
        """Accuracy of the first minus that of the second."""
        return (self.only_first - self.only_second) / self.images if self.images else math.nan

    @property
    def p(self) -> float:
        """Two-sided p of McNemar's exact test."""
        return mcnemar_p(self.only_first, self.only_second)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the difference: all that is not rejected, 0 by the exact test, others by the score test.

        So it contains 0 if `p` is at least 0.05. It covers the sampling of the test images, not that another seed would
        have given two other models.
        """
        low, high = score_interval(self.only_first, self.only_second, self.images)
        return (low, high) if self.p < LEVEL else (min(low, 0.0), max(high, 0.0))


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Two-sided p of McNemar's exact test (McNemar 1947): equally good models split discordant images like a fair coin.

    Twice the smaller tail of a binomial distribution of `only_first + only_second` throws, at most 1.

    Raises:
        ValueError: if a count is negative.
    """
    if min(only_first, only_second) < 0:
        raise ValueError(f"{only_first} and {only_second} are no counts of images")
    throws, fewer = only_first + only_second, min(only_first, only_second)
    tail, term = 0, 1
    for number in range(fewer + 1):  # in integers, so that nothing is rounded before the end
        tail += term
        term = term * (throws - number) // (number + 1)
    return min(1.0, 2 * tail / 2**throws) if throws else 1.0


def score_interval(only_first: int, only_second: int, images: int, z: float = Z95) -> tuple[float, float]:
    """Interval of the difference of two accuracies on the same images, by default at 95 % (Tango 1998).

    All differences d that the score test of "the difference is d" does not reject. Unlike the normal approximation it
    is not empty when no image is discordant, and stays within -1 to 1.

    Raises:
        ValueError: if there are no images.
    """
    if images <= 0:
        raise ValueError("a difference of accuracies needs images")
    found = (only_first - only_second) / images

    def edge(end: float) -> float:
        """The difference nearest to `end` that is not rejected; the score grows monotonically on the way there."""
        inside, outside = found, end
        if abs(_score(only_first, only_second, images, end)) <= z:
            return end
        for _ in range(BISECTIONS):
            middle = (inside + outside) / 2
            if abs(_score(only_first, only_second, images, middle)) > z:
                outside = middle
            else:
                inside = middle
        return inside

    return edge(-1.0), edge(1.0)


def _score(only_first: int, only_second: int, images: int, difference: float) -> float:
    """Tango's score statistic of a difference; 0 at the difference that was observed."""
    gap = only_first - only_second - images * difference
    # Given the difference, the likeliest share q of images that only the second gets right solves
    # 2 n q² + linear q + constant = 0; the share of the first is then q + difference.
    linear = -only_first - only_second + (2 * images - only_first + only_second) * difference
    constant = -only_second * difference * (1 - difference)
    share = (math.sqrt(max(0.0, linear * linear - 8 * images * constant)) - linear) / (4 * images)
    variance = images * (2 * share + difference * (1 - difference))
    if variance <= 0:
        return 0.0 if gap == 0 else math.copysign(math.inf, gap)
    return gap / math.sqrt(variance)
