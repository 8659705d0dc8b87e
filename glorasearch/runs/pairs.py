"""What compared runs say in pairs: two models on the same test images, two methods on the same seeds and tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from glorasearch.runs.results import Verdict
from glorasearch.statistics import LEVEL, PairedErrors, PairedImages, PairedRuns, holm


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedModels:
    """The exported models of two runs on the same test images."""

    run: str
    against: str
    images: PairedImages | PairedErrors
    p_adjusted: float
    """After Holm, over the pairs that are compared."""

    @property
    def verdict(self) -> Verdict:
        """What can be said of `run`."""
        if self.p_adjusted >= LEVEL:
            return "no difference"
        return "better" if (self.images.difference > 0) is isinstance(self.images, PairedImages) else "worse"

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        images = self.images
        return {
            "run": self.run,
            "against": self.against,
            "images": images.images,
            **(
                {"both": images.both, "only_run": images.only_first, "only_against": images.only_second}
                if isinstance(images, PairedImages)
                else {"of": "squared_error"}
            ),
            "difference": images.difference,
            "interval": images.interval,
            "p": images.p,
            "p_adjusted": self.p_adjusted,
            "verdict": self.verdict,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two test accuracies with the same seed, task and test images."""

    task: str
    seed: int
    runs: tuple[str, ...]
    """The runs they are from."""
    difference: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedMethods:
    """The test accuracies of two methods, paired by seed and task."""

    method: str
    against: str
    pairs: tuple[Pair, ...]
    p_better: float
    """One-sided, by Wilcoxon's test, after Holm over the methods that are compared."""
    p_worse: float

    @classmethod
    def of(cls, found: Sequence[tuple[str, str, tuple[Pair, ...]]]) -> list[Self]:
        """Of (method, the other, pairs), with p adjusted for how many there are."""
        runs = [PairedRuns(tuple(pair.difference for pair in pairs)) for _, _, pairs in found]
        better, worse = holm([one.p_better for one in runs]), holm([one.p_worse for one in runs])
        return [
            cls(method=method, against=against, pairs=pairs, p_better=better[index], p_worse=worse[index])
            for index, (method, against, pairs) in enumerate(found)
        ]

    @property
    def differences(self) -> PairedRuns:
        """The differences, and what they say."""
        return PairedRuns(tuple(pair.difference for pair in self.pairs))

    @property
    def verdict(self) -> Verdict:
        """What can be said of `method`."""
        if self.p_better < LEVEL:
            return "better"
        return "worse" if self.p_worse < LEVEL else "no difference"

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        differences = self.differences
        return {
            "method": self.method,
            "against": self.against,
            "pairs": len(self.pairs),
            "mean": differences.mean,
            "interval": differences.interval,
            "wilcoxon_p": differences.p_better,
            "wilcoxon_p_worse": differences.p_worse,
            "wilcoxon_p_adjusted": self.p_better,
            "wilcoxon_p_worse_adjusted": self.p_worse,
            "least_p": differences.least_p,
            "verdict": self.verdict,
            "each": [
                {"task": pair.task, "seed": pair.seed, "runs": list(pair.runs), "difference": pair.difference}
                for pair in self.pairs
            ],
        }


@dataclass(frozen=True, slots=True)
class Paired:
    """All pairs with the first run or method that was tested, and what could not be paired."""

    rows: tuple[PairedModels, ...] | tuple[PairedMethods, ...] = ()
    unpaired: Mapping[str, str] = field(default_factory=dict)
    """Run → why it is in no pair."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"paired": [row.to_dict() for row in self.rows], "unpaired": dict(self.unpaired)}
