"""What was measured on the test split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import Field

from glorasearch.runs.results.comparison import Correct, Errors
from glorasearch.runs.stage_result import FrozenModel, StageResult


class RandomSubnets(FrozenModel):
    """Random subnets with the supernet's weights, on the test split."""

    count: int
    mean_parameters: float
    mean_test_accuracy: float | None
    """None of numbers, which have the errors below."""
    std_test_accuracy: float | None
    mean_test_error: float | None = None
    std_test_error: float | None = None


class SplitSummary(FrozenModel):
    """The images of one split."""

    images: int
    digest: str
    origin: str
    classes_without_images: int
    class_images: tuple[int, ...] = ()
    """Images of each class, in the order of the outputs."""
    in_memory: bool


class TargetStandard(FrozenModel):
    """A target minus `mean`, divided by `std`, is what is trained, and what errors are of."""

    name: str
    mean: float
    """Of the training images."""
    std: float


class DataSummary(FrozenModel):
    """The three splits."""

    source: str
    task: str = "classify"
    """What is asked of an image."""
    classes: int
    """Classes, labels or targets."""
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
    standards: tuple[TargetStandard, ...] = ()
    """Of numbers: by what each target is standardised, in the order of the outputs."""


class WinnerTest(FrozenModel):
    """How good the winner is on the test split."""

    test_accuracy: float | None
    """With the weights of the refit; None of numbers, which have errors."""
    test_accuracy_inherited: float | None
    """Of the best searched subnet with the weights of the supernet, before any refit."""
    test_error: float | None = None
    """Of numbers: the mean squared error of standardised targets, with the weights of the refit."""
    test_error_inherited: float | None = None
    """Likewise, of the best searched subnet with the weights of the supernet."""


class MetricTest(FrozenModel):
    """A metric of the test images, and how well it is known."""

    value: float | None
    """None if it does not exist, as an area under the curve of images with one label."""
    interval: tuple[float, float] | None
    """95 %, over the sampling of the test images; None where nothing tells."""
    resamples: int
    """That the interval is from; 0 of a share of images, whose interval is Wilson's."""


class Confusion(FrozenModel):
    """Test images of one class that are taken for one class."""

    label: int
    prediction: int
    """Places in `splits.class_names`."""
    images: int

    @classmethod
    def each(cls, labels: Sequence[int], predicted: Sequence[int]) -> tuple[Self, ...]:
        """Of every pair that occurs: the confusion matrix without its zeros, row by row."""
        pairs = sorted(Counter(zip(labels, predicted, strict=True)).items())
        return tuple(cls(label=label, prediction=prediction, images=images) for (label, prediction), images in pairs)


class TemperatureFound(FrozenModel):
    """What the winner's logits are divided by for probabilities that fit; no test image had a say in it."""

    value: float
    """Above 1 if the model is too sure of itself."""
    images: str
    """Those that it fits best: `out of fold`, of the winner of a race or of its refit, or `search split`, of inherited
    weights."""


class ClassTest(FrozenModel):
    """The test images of one class, or with one label."""

    name: str
    images: int
    correct: int
    """Those that the refitted winner classifies correctly: `correct / images` is the recall."""
    predicted: int | None = None
    """Test images of any class that it takes for this one: `correct / predicted` is the precision; None in reports of
    earlier versions."""
    auc: float | None = None
    """With several labels an image: the area under the label's ROC curve; None if all test images have it."""
    average_precision: float | None = None
    """Likewise, of its curve of precision and recall."""

    @classmethod
    def each(cls, names: Sequence[str], by_output: Sequence[Mapping[str, Any]]) -> tuple[Self, ...]:
        """Of every class that has a test image, in the order of the outputs; `by_output` is from `Task.by_output`."""
        return tuple(cls(name=name, **own) for name, own in zip(names, by_output, strict=True) if own["images"])


class TargetTest(FrozenModel):
    """What the refitted winner says of a target of the test images, in its own unit."""

    name: str
    r2: float | None
    """None if all test images have it alike."""
    mae: float | None
    rmse: float | None

    @classmethod
    def each(cls, names: Sequence[str], by_output: Sequence[Mapping[str, Any]]) -> tuple[Self, ...]:
        """In the order of the outputs; `by_output` is from `Task.by_output`."""
        return tuple(cls.model_validate({"name": name, **own}) for name, own in zip(names, by_output, strict=True))


class TestResult(WinnerTest, StageResult, stage="test"):
    """Everything that was measured on the test split."""

    correct: Correct | None
    """The test images that the refitted winner classifies correctly; None of numbers."""
    errors: Errors | None = None
    """Of numbers: the squared error of each test image."""
    baselines_errors: dict[str, Errors] = Field(default_factory=dict)
    """Likewise, of each baseline."""
    errors_inherited: Errors | None = None
    """Likewise, of the best searched subnet with the weights of the supernet."""
    correct_inherited: Correct | None = None
    """Those that the best searched subnet classifies correctly with the weights of the supernet."""
    baselines: dict[str, float]
    """Baseline → its test accuracy; none of numbers."""
    baselines_correct: dict[str, Correct]
    """Baseline → the test images that it classifies correctly."""
    random_subnets: RandomSubnets | None
    splits: DataSummary
    by_class: tuple[ClassTest, ...] = ()
    """The winner's result for each class."""
    by_target: tuple[TargetTest, ...] = ()
    """Of numbers: for each target."""
    files: dict[str, str] = Field(default_factory=dict)
    """Table of the run's folder → its SHA-256; none of an earlier version."""
    metrics: dict[str, MetricTest] = Field(default_factory=dict)
    """The refitted winner's."""
    baselines_metrics: dict[str, dict[str, MetricTest]] = Field(default_factory=dict)
    """Baseline → its metrics, without intervals."""
    confusion: tuple[Confusion, ...] = ()
    """The refitted winner's."""
    temperature: TemperatureFound | None = None

    @property
    def judged(self) -> Correct | Errors | None:
        """The refitted winner on each test image: right or wrong, or by how much."""
        return self.correct or self.errors
