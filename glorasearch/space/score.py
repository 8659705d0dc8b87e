"""What is measured of a candidate on images, and what makes one candidate better than another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Self

from glorasearch.space.class_counts import ClassCounts

Fitness = Literal["tempered", "accuracy", "cross_entropy", "balanced_accuracy", "macro_f1", "auc", "squared_error"]
"""What a search optimises.

- `tempered`: the mean cross-entropy in nats at the candidate's own best temperature, `min over beta in BETAS of
  mean_i [logsumexp(beta z_i) - beta z_i,y_i]` of logits z. It does not punish a candidate for being sure of itself.
- `accuracy`: the share of correct images.
- `cross_entropy`: the mean cross-entropy in nats.
- `balanced_accuracy`: the mean over classes of the share of their images that are correct.
- `macro_f1`: the mean over classes of the F1 score; a class counts if an image has it or is taken for it.
- `auc`: the mean over classes of the area under the ROC curve of one class against the rest.
- `squared_error`: of numbers, the mean squared error of targets that are standardised by the training images.
"""
FITNESSES: Final[tuple[Fitness, ...]] = ("tempered", "accuracy", "cross_entropy")
"""Those that every score of classes or labels has."""
OF_NUMBERS: Final[tuple[Fitness, ...]] = ("squared_error",)
"""Those that a score of numbers has, which has no others."""
CLASS_METRICS: Final[tuple[Fitness, ...]] = ("balanced_accuracy", "macro_f1", "auc")
"""Those that take classes alike: a score has the ones that its task asks for."""
WITHOUT_BOUND: Final[tuple[Fitness, ...]] = ("auc",)
"""Those that some of the images say too little of: for them every candidate is evaluated to the end."""
_HIGHER_IS_BETTER: Final[tuple[Fitness, ...]] = ("accuracy", *CLASS_METRICS)
_WRITTEN: Final = {
    "tempered": "tempered cross-entropy",
    "macro_f1": "macro F1",
    "auc": "AUC",
    "balanced_accuracy": "balanced accuracy",
    "squared_error": "squared error",
}


def higher_is_better(fitness: Fitness) -> bool:
    """Whether the fitness is between 0 and 1, and 1 is the best; else 0 is the best."""
    return fitness in _HIGHER_IS_BETTER


def fitness_name(fitness: str) -> str:
    """As it is written in a sentence."""
    return _WRITTEN.get(fitness, fitness.replace("_", "-"))


_QUARTERS: Final = (1.0, math.sqrt(math.sqrt(2)), math.sqrt(2), math.sqrt(math.sqrt(8)))
"""Powers of 2 ** (1/4), from square roots, which are rounded alike on every machine."""
BETAS: Final[tuple[float, ...]] = (*(math.ldexp(step, octave) for octave in range(-5, 4) for step in _QUARTERS), 16.0)
"""The inverse temperatures that are tried: 37 from 1/32 to 16, four an octave; 1 is one of them."""
_PLAIN: Final = BETAS.index(1.0)


class ScoreSums(NamedTuple):
    """What a `Score` is made of: sums over some images."""

    correct: int
    nats: tuple[float, ...]
    """Sum of their cross-entropies at each of `BETAS`, exact as `glorasearch.space.early_stopping` says; nan or inf if
    one of them is. Of numbers the sum of their squared errors, which no temperature changes."""
    classes: ClassCounts | None = None
    """Counts by class, if they were asked for."""
    auc: float | None = None
    """Area under the ROC curve of all images, if it was asked for."""

    @property
    def finite(self) -> bool:
        """Whether all cross-entropies are finite: at one temperature, and so at every."""
        return math.isfinite(self.cross_entropy)

    @property
    def cross_entropy(self) -> float:
        """Sum of the cross-entropies of the logits as they are, nats."""
        return self.nats[_PLAIN]

    @property
    def tempered(self) -> float:
        """The least sum over the temperatures, nats."""
        return min(self.nats)

    @property
    def beta(self) -> float:
        """The inverse temperature of the least sum; the smallest of several."""
        return BETAS[self.nats.index(self.tempered)]


@dataclass(frozen=True, slots=True)
class Score:
    """What an evaluation found on the images of the search split; of those that it saw, if it stopped early.

    Result, trial record and the trial's row carry it whole: a field that is added here is stored and read back.
    """

    correct: int
    """Images classified correctly, among those seen."""
    total: int
    """Images of the split."""
    cross_entropy: float
    """Mean over the images seen, nats."""
    tempered: float
    """The same at the best of the temperatures `1 / BETAS`, one for all images."""
    beta: float
    """The inverse of that temperature."""
    seconds: float = 0.0
    """Wall-clock seconds of the evaluation; 0 if the score was reused."""
    bound: float | None = None
    """If the evaluation stopped early: the best fitness that the candidate could still have reached."""
    stopped_after: int | None = None
    """If the evaluation stopped early: the images seen."""
    balanced_accuracy: float | None = None
    """Of the images seen, as are the next two: a metric that takes classes alike, if the task asks for it."""
    macro_f1: float | None = None
    auc: float | None = None
    squared_error: float | None = None
    """Of numbers, which are neither right nor wrong: then the loss, and what stands for accuracy, cross-entropies and
    temperature means nothing."""

    @classmethod
    def of(
        cls,
        sums: ScoreSums,
        total: int,
        *,
        seconds: float = 0.0,
        bound: float | None = None,
        seen: int | None = None,
        numbers: bool = False,
    ) -> Self:
        """The score that sums over `seen` of `total` images make; over all of them if `seen` is not given.

        With `numbers` the sums are of squared errors.
        """
        images = total if seen is None else seen
        if numbers:
            return cls.of_numbers(sums.cross_entropy / images, total, seconds=seconds, bound=bound, stopped_after=seen)
        return cls(
            correct=sums.correct,
            total=total,
            cross_entropy=sums.cross_entropy / images,
            tempered=sums.tempered / images,
            beta=sums.beta,
            seconds=seconds,
            bound=bound,
            stopped_after=seen,
            balanced_accuracy=None if sums.classes is None else sums.classes.balanced_accuracy,
            macro_f1=None if sums.classes is None else sums.classes.macro_f1,
            auc=sums.auc,
        )

    @classmethod
    def of_numbers(cls, squared_error: float, total: int, **others: Any) -> Self:
        """The score of numbers; `others` are fields of their own name."""
        return cls(0, total, squared_error, squared_error, 1.0, squared_error=squared_error, **others)

    @property
    def right_or_wrong(self) -> bool:
        """Whether images are right or wrong, so that there are an accuracy and a temperature."""
        return self.squared_error is None

    @property
    def temperature(self) -> float:
        """What logits are divided by in the tempered cross-entropy: above 1 if the candidate is too sure of itself."""
        return 1 / self.beta

    @property
    def stopped_early(self) -> bool:
        """Whether the evaluation stopped before the last image, the candidate being certain not to matter."""
        return self.bound is not None

    @property
    def seen(self) -> int:
        """Images that the score is of: all of them, unless the evaluation stopped early."""
        return self.total if self.stopped_after is None else self.stopped_after

    @property
    def accuracy(self) -> float:
        """Share of correct images among those seen, between 0 and 1."""
        return self.correct / self.seen if self.seen else float("nan")
