"""Two models on the same images, by the squared error that each has on each."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from glorasearch.statistics.intervals import student_quantile, student_within


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedErrors:
    """The mean difference of two models' errors on the same images: the first minus the second, the lower the better.

    Interval and p are those of Student's paired test (Student 1908). They cover the sampling of the images, not that
    another seed would have given two other models.
    """

    images: int
    difference: float
    interval: tuple[float, float]
    """95 %."""
    p: float
    """Two-sided."""

    @classmethod
    def of(cls, first: Sequence[float], second: Sequence[float]) -> Self:
        """Of errors on the same images.

        Raises:
            ValueError: if there is no image, or one list is longer.
        """
        gaps = [one - other for one, other in zip(first, second, strict=True)]
        mean = statistics.fmean(gaps)
        deviation = statistics.stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else math.inf
        if len(gaps) < 2:
            return cls(images=len(gaps), difference=mean, interval=(-math.inf, math.inf), p=1.0)
        if not deviation:
            return cls(images=len(gaps), difference=mean, interval=(mean, mean), p=1.0 if not mean else 0.0)
        freedom, half = len(gaps) - 1, student_quantile(0.95, len(gaps) - 1) * deviation
        p = max(0.0, 1 - student_within(abs(mean) / deviation, freedom))
        return cls(images=len(gaps), difference=mean, interval=(mean - half, mean + half), p=p)
