"""Equal images in splits that are drawn out of one list: a model would be judged on images that it was trained on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from glorasearch.data.splitter import IntArray

_TAG = 67
"""Seeds the choice of the images that change places with copies, together with the seed of the splits."""


def describe_copies(
    drawn: IntArray, contents: Sequence[bytes], labels: npt.NDArray[Any], name: Callable[[int], str]
) -> str:
    """What is to be said of equal images; empty if there are none.

    Args:
        drawn: `(n,)` indices into the list, of the images of all splits.
        contents: n content hashes.
        labels: of the whole list.
        name: names an image of the list.
    """
    first: dict[bytes, int] = {}
    pairs = [
        (known, index)
        for index, content in sorted(zip(drawn.tolist(), contents, strict=True))
        if (known := first.setdefault(content, index)) != index
    ]
    if not pairs:
        return ""

    def example(pair: tuple[int, int]) -> str:
        return f"such as {name(pair[1])} = {name(pair[0])}"

    text = (
        f"{len(pairs)} of {len(drawn)} images are copies of others, {example(pairs[0])}; copies are kept in one split"
    )
    other = [pair for pair in pairs if (labels[pair[0]] != labels[pair[1]]).any()]
    has = "has" if len(other) == 1 else "have"
    return f"{text}; {len(other)} of them {has} another label, {example(other[0])}" if other else text


def keep_together(
    parts: Sequence[IntArray], contents: Sequence[Sequence[bytes]], labels: IntArray, seed: int
) -> list[IntArray]:
    """The same splits, but with equal images in one of them; without equal images in two splits nothing changes.

    All copies of an image go to the first split that has one. In return, as many images of the same class go back, at
    random: images without a copy first, then all copies of an image at once. Where a class has too few for that, images
    of others do, but none leaves a split for it. So splits keep their sizes, unless nearly all images are copies.

    Args:
        parts: of each split, its indices into the list, ascending.
        contents: of each split, the content hashes of its images.
        labels: of the whole list.
        seed: of the splits.

    Returns:
        The indices of each split, ascending.
    """
    indices, part_of = np.concatenate(parts), np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    by_content: dict[bytes, list[int]] = defaultdict(list)
    for position, content in enumerate(content for own in contents for content in own):
        by_content[content].append(position)
    apart = [group for group in by_content.values() if len(set(part_of[group].tolist())) > 1]
    if not apart:
        return list(parts)
    names, classes = np.unique(labels[indices], return_inverse=True)
    counts = np.zeros((len(names), len(parts)), np.int64)
    np.add.at(counts, (classes, part_of), 1)
    surplus = np.zeros_like(counts)

    def move(group: Sequence[int], part: int) -> None:
        for position in group:
            for table in (counts, surplus):
                table[classes[position], part_of[position]] -= 1
                table[classes[position], part] += 1
            part_of[position] = part

    for group in apart:
        move(group, min(part_of[group].tolist()))
    groups = list(by_content.values())
    groups = [groups[i] for i in np.random.default_rng([seed, _TAG]).permutation(len(groups)).tolist()]
    groups.sort(key=len)  # stable: those of a size stay in their random order
    for same_class in (True, False):
        for group in groups:
            here, own = part_of[group[0]], np.unique(classes[group])
            if same_class and (len(own) > 1 or surplus[own[0], here] <= 0):
                continue
            balance = surplus[own[0]] if same_class else surplus.sum(axis=0)
            there = int(balance.argmin())
            if len(group) <= min(balance[here], -balance[there]) and (counts[own, here] > len(group)).all():
                move(group, there)
        if not surplus.sum(axis=0).any():
            break
    return [np.sort(indices[part_of == part]) for part in range(len(parts))]
