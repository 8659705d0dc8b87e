"""The splits of one source together: for training and search, and with the test split for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from glorasearch.data.overlap import OverlapReport
from glorasearch.data.reading import Reading
from glorasearch.data.splits import SearchSplit, TestSplit, TrainSplit


class _WithSearch:
    """What splits have in common of which one is for training and one for the search."""

    train: TrainSplit
    search: SearchSplit
    class_names: tuple[str, ...]

    @property
    def classes(self) -> int:
        """Number of classes, labels or targets."""
        return len(self.class_names)

    @property
    def chance(self) -> float:
        """Mean loss of a model that knows nothing, nats, or squared standard deviations of targets."""
        return self.train.task.chance(self.classes)

    def train_and_search(self) -> TrainSplit:
        """Both as one split, for a refit."""
        return self.train.with_search(self.search)


@dataclass(frozen=True)
class SearchData(_WithSearch):
    """The splits for training and search; the test split is not among them."""

    train: TrainSplit
    search: SearchSplit
    class_names: tuple[str, ...]
    reading: Reading | None = None
    """How stored pixels are read; None if they are 8-bit arrays."""


@dataclass(frozen=True)
class Splits(_WithSearch):
    """Three disjoint splits of one source."""

    train: TrainSplit
    search: SearchSplit
    test: TestSplit
    class_names: tuple[str, ...]
    overlap: OverlapReport
    source: str = ""
    reading: Reading | None = None
    """How stored pixels are read; None if they are 8-bit arrays."""
    turned: int = 0
    """Images that are turned upright."""
    scale: str = ""
    """The scale of images with more than 8 bits a pixel, in words."""
    ignored: Mapping[str, int] = field(default_factory=dict)
    """Reason → how many files or folders of the source are not used."""
    copies: str = ""
    """Equal images, in words, where splits are drawn out of one list; they are in one of these splits."""
    files: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Split → the file of each image, or its place in the source, in the split's order."""

    def describe(self) -> dict[str, Any]:
        """JSON for a report."""
        return {
            "source": self.source,
            "task": self.train.task.kind,
            "classes": self.classes,
            "class_names": list(self.class_names),
            "reading": None if self.reading is None else self.reading.describe() | {"turned": self.turned},
            "scale": self.scale,
            "ignored": dict(self.ignored),
            "copies": self.copies,
            "input": self.train.spec.describe(),
            "train": self.train.describe(),
            "search": self.search.describe(),
            "test": self.test.describe(),
            "overlap": self.overlap.describe(),
            **self._standards(),
        }

    def _standards(self) -> dict[str, Any]:
        """What targets that are numbers are standardised by."""
        standard = self.train.task.standard
        if standard is None:
            return {}
        numbers = zip(self.class_names, standard.mean, standard.std, strict=True)
        return {"standards": [{"name": name, "mean": mean, "std": std} for name, mean, std in numbers]}
