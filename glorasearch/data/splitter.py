"""Stratified, seeded, disjoint index sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


def stratified_split(labels: IntArray, sizes: Sequence[int], generator: np.random.Generator) -> list[IntArray]:
    """Disjoint, stratified sets of indices into `labels`, of exactly the given sizes.

    Each set gets its share of the images of every class, rounded by the largest remainder. A class with an image for
    every set is in every set that is at least as large as the number of classes; a class with fewer images goes to the
    first sets. Indices left over are in no set.

    Args:
        labels: `(N,)`.
        sizes: of the sets; their sum is at most N.
        generator: decides which images of a class go where, and breaks ties of rounding.

    Returns:
        The indices of each set, ascending.

    Raises:
        ValueError: if a size is negative or their sum exceeds N.
    """
    if any(size < 0 for size in sizes) or sum(sizes) > len(labels):
        raise ValueError(f"sets of {list(sizes)} cannot be taken out of {len(labels)} images")
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    shuffled = generator.permutation(len(labels))
    members = [shuffled[inverse[shuffled] == position] for position in range(len(counts))]
    left = counts.astype(np.int64)
    result: list[IntArray] = []
    for position, size in enumerate(sizes):
        later = sum(1 for other in sizes[position + 1 :] if other >= len(counts))
        taken = _shares(left, size, later, generator)
        chosen = [own[start : start + n] for own, start, n in zip(members, counts - left, taken, strict=True)]
        result.append(np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64))
        left = left - taken
    return result


def _shares(left: IntArray, size: int, later: int, generator: np.random.Generator) -> IntArray:
    """The number of images of each class in one set: `size` in all, in proportion to `left`, within bounds.

    The bounds reserve one image of each class for this set and one for each of the `later` sets, if the counts allow
    it; a set smaller than the number of classes has no lower bounds.
    """
    low = np.minimum(left, 1) if size >= np.count_nonzero(left) else np.zeros_like(left)
    high = left - np.minimum(later, np.maximum(left - 1, 0))
    if high.sum() < size:
        high = left
    ideal = size * left / max(1, left.sum())
    taken = np.clip(np.floor(ideal).astype(np.int64), low, high)
    tie = generator.random(len(left))
    while (missing := size - int(taken.sum())) != 0:
        step = 1 if missing > 0 else -1
        open_ = np.flatnonzero(taken < high if step > 0 else taken > low)
        order = np.lexsort((tie[open_], step * (taken[open_] - ideal[open_])))
        taken[open_[order[: abs(missing)]]] += step
    return np.asarray(taken, dtype=np.int64)
