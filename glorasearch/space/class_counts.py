"""What metrics that take classes alike, however many images they have, are made of: counts by class."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple


class ClassCounts(NamedTuple):
    """Images by class, of those that were seen of a split; each is `(classes,)`."""

    split: tuple[int, ...]
    """Of the whole split, by label."""
    labelled: tuple[int, ...]
    """Seen, by label."""
    predicted: tuple[int, ...]
    """Seen, by the class that they are taken for."""
    correct: tuple[int, ...]
    """Seen and right."""

    @property
    def balanced_accuracy(self) -> float:
        """The mean over the classes that have images of the share of their images that are right."""
        return _mean(right / images for right, images in zip(self.correct, self.labelled, strict=True) if images)

    @property
    def macro_f1(self) -> float:
        """The mean F1 score of the classes that an image has or is taken for."""
        both = [images + taken for images, taken in zip(self.labelled, self.predicted, strict=True)]
        return _mean(2 * right / all_ for right, all_ in zip(self.correct, both, strict=True) if all_)

    @property
    def best_case(self) -> ClassCounts:
        """The same once all images have been seen, if every one that is still to come were right."""
        unseen = [whole - seen for whole, seen in zip(self.split, self.labelled, strict=True)]
        predicted, correct = (
            tuple(known + more for known, more in zip(counts, unseen, strict=True))
            for counts in (self.predicted, self.correct)
        )
        return ClassCounts(self.split, self.split, predicted, correct)


def _mean(values: Iterable[float]) -> float:
    """Rounded as one sum and one quotient: a larger value never makes a smaller mean."""
    listed = list(values)
    return math.fsum(listed) / len(listed) if listed else math.nan
