"""Folds of labelled images, and the seeds of the trainings on them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_TAG = 41
"""Seeds the order of the images, together with the run's seed."""


def fold_of(
    labels: NDArray[np.int64], folds: int, seed: int, first_equals: Sequence[int] | None = None
) -> NDArray[np.int64]:
    """The fold of every image, `(n,)` from 0; an image and its copies are in one fold, whatever their labels.

    Images are put in a random order and then sorted by label; the i-th is in fold i modulo `folds`. So of each class,
    as of all images, no fold has more than one image more than another.

    Where there are copies, those of an image follow it, and within a class the images with most copies come first.
    Each image, with its copies, goes to the fold that has fewest images of its class, of these to that with fewest
    images, of these to the first: without copies, that is the i-th to fold i modulo `folds`. No fold is empty.

    Args:
        labels: `(n,)`, the classes, or the groups of another task, in whose proportions folds are made.
        folds: number of folds.
        seed: of the run.
        first_equals: for each of n images the first one that is equal to it; None if all are different.

    Raises:
        ValueError: if there are fewer different images than folds.
    """
    first = np.arange(len(labels)) if first_equals is None else np.array(first_equals, dtype=np.int64)
    sizes = np.bincount(first, minlength=len(labels))
    different = np.count_nonzero(sizes)
    if different < folds:
        raise ValueError(f"{different} different images cannot be shared among {folds} folds")
    order = np.random.default_rng([seed, _TAG]).permutation(len(labels))
    order = order[np.lexsort((-sizes[order], labels[order]))]
    found = np.empty(len(labels), dtype=np.int64)
    if different == len(labels):
        found[order] = np.arange(len(labels)) % folds
        return found
    by_class: dict[int, list[int]] = {label: [0] * folds for label in np.unique(labels).tolist()}
    together = [0] * folds
    copies = _copies(first)
    for image in order[sizes[order] > 0].tolist():
        own = by_class[int(labels[image])]
        fold = min(range(folds), key=lambda one: (own[one], together[one]))
        found[copies[image]] = fold
        together[fold] += len(copies[image])
        for label in labels[copies[image]].tolist():
            by_class[label][fold] += 1
    return found


def _copies(first: NDArray[np.int64]) -> dict[int, list[int]]:
    """Image → the images that are equal to it, itself included, of the first one of each kind."""
    found: dict[int, list[int]] = {}
    for image, same in enumerate(first.tolist()):
        found.setdefault(same, []).append(image)
    return found


def member_seed(seed: int, key: str, part: int | str) -> int:
    """The seed of one training: a pure function of the run's seed, the candidate and the fold (or another part)."""
    content = hashlib.sha256(f"{seed} {key} {part}".encode()).digest()
    return int.from_bytes(content[:4], "big") >> 1
