"""What was measured on the test split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import compress
from typing import Any, Self

from pydantic import Field

from glorasearch.runs.results.comparison import Correct
from glorasearch.runs.stage_result import FrozenModel, StageResult


class RandomSubnets(FrozenModel):
    """Random subnets with the supernet's weights, on the test split."""

    count: int
    mean_parameters: float
    mean_test_accuracy: float
    std_test_accuracy: float


class SplitSummary(FrozenModel):
    """The images of one split."""

    images: int
    digest: str
    origin: str
    classes_without_images: int
    class_images: tuple[int, ...] = ()
    """Images of each class, in the order of the outputs."""
    in_memory: bool


class DataSummary(FrozenModel):
    """The three splits."""

    source: str
    classes: int
    input: dict[str, Any]
    """What the backbone sees: size, mean, standard deviation, crop."""
    train: SplitSummary
    search: SplitSummary
    test: SplitSummary
    class_names: tuple[str, ...] = ()
    """In the order of the outputs."""
    reading: dict[str, Any] | None = None
    """How stored pixels are read, and how many images are turned upright; None of 8-bit arrays."""
    scale: str = ""
    """The scale of images with more than 8 bits a pixel, in words."""
    ignored: dict[str, int] = Field(default_factory=dict)
    """Reason → how many files or folders of the source are not used."""
    copies: str = ""
    """Equal images, in words, where splits are drawn out of one list; they are in one of these splits."""
    overlap: dict[str, Any]
    """Images that occur in two splits."""


class WinnerTest(FrozenModel):
    """Accuracy of the winner on the test split."""

    test_accuracy: float
    """With the weights of the refit."""
    test_accuracy_inherited: float
    """Of the best searched subnet with the weights of the supernet, before any refit."""


class ClassTest(FrozenModel):
    """The test images of one class."""

    name: str
    images: int
    correct: int
    """Those that the refitted winner classifies correctly."""

    @classmethod
    def each(cls, names: Sequence[str], labels: Sequence[int], correct: Sequence[bool]) -> tuple[Self, ...]:
        """Of every class that has a test image, in the order of the outputs."""
        images, right = Counter(labels), Counter(compress(labels, correct))
        return tuple(
            cls(name=name, images=images[label], correct=right[label])
            for label, name in enumerate(names)
            if images[label]
        )


class TestResult(WinnerTest, StageResult, stage="test"):
    """Everything that was measured on the test split."""

    correct: Correct
    """The test images that the refitted winner classifies correctly."""
    correct_inherited: Correct | None = None
    """Those that the best searched subnet classifies correctly with the weights of the supernet."""
    baselines: dict[str, float]
    """Baseline → its test accuracy."""
    baselines_correct: dict[str, Correct]
    """Baseline → the test images that it classifies correctly."""
    random_subnets: RandomSubnets | None
    splits: DataSummary
    by_class: tuple[ClassTest, ...] = ()
    """The winner's result for each class."""
    files: dict[str, str] = Field(default_factory=dict)
    """Table of the run's folder → its SHA-256; none of an earlier version."""
