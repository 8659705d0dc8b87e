"""The images of a race: train + search, in folds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glorasearch.data import SearchData, TrainSplit
from glorasearch.race import fold_of


@dataclass(frozen=True, kw_only=True)
class RaceImages:
    """Train + search, and which of them judge a training."""

    split: TrainSplit
    folds: NDArray[np.int64]
    """`(n,)`: the fold of every image."""
    judging: NDArray[np.bool_]
    """`(n,)`: whether an image judges the models that have not seen it."""

    @classmethod
    def of(cls, data: SearchData, folds: int, seed: int, *, search_only: bool) -> RaceImages:
        """Of a run; with `search_only` the images of the training split judge nothing."""
        split = data.train_and_search()
        judging = np.arange(len(split)) >= (len(data.train) if search_only else 0)
        return cls(split=split, folds=race_folds(split, folds, seed), judging=judging)


def race_folds(split: TrainSplit, folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of every image of train + search, `(n,)`.

    Classes, or the groups of another task, are shared evenly; an image and its copies are in one fold.
    """
    return fold_of(split.task.strata(split.labels.numpy()), folds, seed, split.first_equals())
