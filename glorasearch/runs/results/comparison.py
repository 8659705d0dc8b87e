"""Which test images a model gets right, and what that says of two models."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterable
from statistics import fmean
from typing import Literal, Self

from pydantic import model_validator

from glorasearch.runs.stage_result import FrozenModel
from glorasearch.statistics import BestByChance, PairedErrors, PairedImages

Verdict = Literal["better", "worse", "no difference"]
"""What can be said at the 5 % level; `no difference` is that none can be told, not that there is none."""


class Correct(FrozenModel):
    """Which images of a split a model classifies correctly, a bit for each."""

    images: int
    bits: str
    """Base64; the first image is the highest bit of the first byte."""

    @model_validator(mode="after")
    def _has_a_bit_for_each(self) -> Self:
        try:
            stored = base64.b64decode(self.bits, validate=True)
        except binascii.Error as error:
            raise ValueError(f"bits are not base64: {error}") from error
        if len(stored) != -(-self.images // 8) or self._number & ((1 << -self.images % 8) - 1):
            raise ValueError(f"{len(stored)} bytes are not the bits of {self.images} images")
        return self

    @classmethod
    def pack(cls, correct: Iterable[bool]) -> Self:
        """From a truth value for each image, in the order of the split."""
        digits = "".join("1" if right else "0" for right in correct)
        padded = digits + "0" * (-len(digits) % 8)
        content = int(padded or "0", 2).to_bytes(len(padded) // 8, "big")
        return cls(images=len(digits), bits=base64.b64encode(content).decode())

    @property
    def _number(self) -> int:
        return int.from_bytes(base64.b64decode(self.bits), "big")

    @property
    def count(self) -> int:
        """Images classified correctly."""
        return self._number.bit_count()

    @property
    def accuracy(self) -> float:
        """Share of images classified correctly."""
        return self.count / self.images

    def each(self) -> tuple[bool, ...]:
        """Whether each image is classified correctly, in the order of the split."""
        width = -(-self.images // 8) * 8
        return tuple(digit == "1" for digit in f"{self._number:0{width}b}"[: self.images]) if self.images else ()

    def against(self, other: Correct) -> PairedImages:
        """This model and another one on the same images.

        Raises:
            ValueError: if they did not see as many.
        """
        if self.images != other.images:
            raise ValueError(f"{self.images} and {other.images} images; a pair needs the same ones")
        first, second = self._number, other._number
        return PairedImages(
            images=self.images,
            both=(first & second).bit_count(),
            only_first=(first & ~second).bit_count(),
            only_second=(second & ~first).bit_count(),
        )


class Errors(FrozenModel):
    """The squared error that a model has on each image of a split, in squared standard deviations of the targets."""

    images: int
    values: str
    """Base64 of float32, little-endian."""

    @model_validator(mode="after")
    def _has_one_for_each(self) -> Self:
        if len(self._bytes) != 4 * self.images:
            raise ValueError(f"{len(self._bytes)} bytes are not the errors of {self.images} images")
        return self

    @classmethod
    def pack(cls, errors: Iterable[float]) -> Self:
        """From the error of each image, in the order of the split."""
        listed = list(errors)
        content = struct.pack(f"<{len(listed)}f", *listed)
        return cls(images=len(listed), values=base64.b64encode(content).decode())

    @property
    def _bytes(self) -> bytes:
        try:
            return base64.b64decode(self.values, validate=True)
        except binascii.Error as error:
            raise ValueError(f"errors are not base64: {error}") from error

    def each(self) -> tuple[float, ...]:
        """The error of each image, in the order of the split."""
        return struct.unpack(f"<{self.images}f", self._bytes)

    @property
    def mean(self) -> float:
        """The mean squared error."""
        return fmean(self.each())

    def against(self, other: Errors) -> PairedErrors:
        """This model and another one on the same images.

        Raises:
            ValueError: if they did not see as many.
        """
        return PairedErrors.of(self.each(), other.each())


def paired(first: Correct | Errors, second: Correct | Errors) -> PairedImages | PairedErrors:
    """Two models on the same images.

    Raises:
        ValueError: if what is known of them is not alike.
    """
    if isinstance(first, Correct) and isinstance(second, Correct):
        return first.against(second)
    if isinstance(first, Errors) and isinstance(second, Errors):
        return first.against(second)
    raise ValueError("one model is right or wrong, the other has errors: they are of different tasks")


class WinnerComparison(FrozenModel):
    """The refitted winner against a baseline, on the same test images."""

    baseline: str
    """Its name in the report."""
    method: str
    """What it is: the name of its search space, with its rate if that comes from the race."""
    best_fixed: bool
    """Whether it is the best fixed method of the race, chosen without the test split."""
    winner_parameters: int
    baseline_parameters: int
    images: int
    both: int | None = None
    """Images that both classify correctly; None of numbers, as are the next two."""
    only_winner: int | None = None
    """Images that only the winner classifies correctly."""
    only_baseline: int | None = None
    difference: float
    """Accuracy of the winner minus that of the baseline; of numbers that of their mean squared errors."""
    interval: tuple[float, float]
    """95 % interval of the difference: the sampling of the test images, not the seed."""
    p: float
    """Two-sided, of McNemar's exact test; of numbers of Student's paired test."""
    p_adjusted: float
    """After Holm, for one of several baselines; that of the best fixed method, which is one planned test, is its p."""
    verdict: Verdict
    """By `p_adjusted`."""


class SearchChance(FrozenModel):
    """The search's winner against the best of as many random subnets, by its fitness on the search split."""

    fitness: str
    found: float
    """The fitness of the search's winner."""
    scores: tuple[float, ...]
    """The fitness of random subnets within the budget, with the supernet's weights; those without a finite one left
    out."""
    draws: int
    """Subnets that the search evaluated."""
    mean: float
    std: float
    """Sample standard deviation of the scores."""
    expected: float
    """Mean of the best of as many random subnets."""
    low: float
    """Lower end of its 95 % band."""
    high: float
    p: float
    """How often the best of as many random subnets is at least as good as the winner."""
    verdict: Literal["better", "worse", "within"]
    """Whether the winner lies beyond the band on its good side, or is worse by its rank among the scores."""

    @classmethod
    def judged(cls, chance: BestByChance, *, fitness: str, found: float, scores: tuple[float, ...]) -> Self:
        """With the verdict."""
        better = chance.p < 0.5 and not chance.low <= found <= chance.high
        verdict = "better" if better else "worse" if chance.worse else "within"
        return cls.of(chance, fitness=fitness, found=found, scores=scores, verdict=verdict)
