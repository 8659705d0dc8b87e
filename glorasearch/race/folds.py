"""Folds of labelled images, and the seeds of the trainings on them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_TAG = 41
"""Seeds the order of the images, together with the run's seed."""


def fold_of(labels: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of every image, `(n,)` from 0.

    Images are put in a random order and then sorted by label; the i-th is in fold i modulo `folds`. So of each class,
    as of all images, no fold has more than one image more than another.

    Args:
        labels: `(n,)`, the classes, or the groups of another task, in whose proportions folds are made.
        folds: number of folds.
        seed: of the run.

    Raises:
        ValueError: if there are fewer images than folds.
    """
    if len(labels) < folds:
        raise ValueError(f"{len(labels)} images cannot be shared among {folds} folds")
    order = np.random.default_rng([seed, _TAG]).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    found = np.empty(len(labels), dtype=np.int64)
    found[order] = np.arange(len(labels)) % folds
    return found


def copies_apart(first_equals: Sequence[int], folds: NDArray[np.int64]) -> int:
    """Images with an equal one in another fold.

    Args:
        first_equals: for each of n images the first one that is equal to it.
        folds: `(n,)`, the fold of every image.
    """
    known: dict[int, set[int]] = {}
    for first, fold in zip(first_equals, folds.tolist(), strict=True):
        known.setdefault(first, set()).add(fold)
    return sum(len(known[first]) > 1 for first in first_equals)


def member_seed(seed: int, key: str, part: int | str) -> int:
    """The seed of one training: a pure function of the run's seed, the candidate and the fold (or another part)."""
    content = hashlib.sha256(f"{seed} {key} {part}".encode()).digest()
    return int.from_bytes(content[:4], "big") >> 1
