"""Operations that change colours, for a batch whose images have different ones: few passes, each over its images alone.

An image's operations are done in its own order; of images in between nothing depends on another's. So operations are
gathered by families, which one computation does, and the families take turns until nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from torch import Tensor

from glorasearch.training.augment import colour
from glorasearch.training.augment.policy import OPERATIONS, Floats, Ints
from glorasearch.training.augment.tones import TONES, lines, needy, tones

_SINGLE: Final[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "Posterize": lambda images, numbers: colour.posterize(images, numbers.view(-1, 1, 1, 1)),
    "Color": lambda images, numbers: colour.saturation(images, numbers.view(-1, 1, 1, 1)),
    "Sharpness": colour.sharpness,
    "Equalize": lambda images, _: colour.equalize(images),
    "GaussianBlur": colour.gaussian_blur,
}
_NUMBERS: Final[dict[str, Callable[[Floats], list[Floats]]]] = {
    "Posterize": lambda bits: [np.exp2(8 - bits)],
    "Sharpness": lambda factor: [(4 + 9 * factor) / 13, 9 * (1 - factor) / 13],  # smooth: (9 mean + 4 own) / 13
}
"""What becomes of an operation's argument; it is used as it is where nothing is said."""
_ALIKE: Final = {"Desaturate": "Color"} | dict.fromkeys(TONES, "tones")
FAMILIES: Final = ("tones", *_SINGLE)
"""Computations, in the order of their turns."""
_FAMILY_OF: Final = np.array(
    [FAMILIES.index(name) if (name := _ALIKE.get(one, one)) in FAMILIES else -1 for one in OPERATIONS] + [-1]
)
"""By an operation's place in `OPERATIONS`; -1 for those that move pixels, and for none, which is the last."""


@dataclass(frozen=True, eq=False)
class Pass:
    """One operation of some images of a batch."""

    family: str
    images: Ints
    """`(k,)`: which ones."""
    arguments: Floats
    """`(k, m)`: what the family needs of each."""
    first: tuple[int, ...] = ()
    """How many of them, at the beginning, are of the kinds that need more than arguments (`tones`)."""

    def run(self, images: Tensor, arguments: Tensor) -> Tensor:
        """Images `(k, C, H, W)` float32 from 0 to 255 by arguments `(k, m)`; both may be overwritten."""
        if self.family == "tones":
            return tones(images, arguments, self.first)
        return _SINGLE[self.family](images, arguments)


def passes(operations: Ints, arguments: Floats) -> list[Pass]:
    """The passes over a batch, by `(n, layers)` as in `Draws`."""
    families = _FAMILY_OF[operations]
    order = np.argsort(families < 0, axis=1, kind="stable")  # those that change colours come first
    codes, values, families = (np.take_along_axis(one, order, 1) for one in (operations, arguments, families))
    done, rows = np.zeros(len(codes), np.int64), np.arange(len(codes))
    count = (families >= 0).sum(axis=1)
    found: list[Pass] = []
    while (done < count).any():
        for number, family in enumerate(FAMILIES):
            left = rows[done < count]
            images = left[families[left, done[left]] == number]
            if len(images):
                found.append(_pass(family, images, codes[images, done[images]], values[images, done[images]]))
                done[images] += 1
    return found


def _pass(family: str, images: Ints, codes: Ints, values: Floats) -> Pass:
    if family != "tones":
        numbers = _NUMBERS[family](values) if family in _NUMBERS else [values]
        return Pass(family, images, np.stack(numbers, axis=1))
    names = [OPERATIONS[code] for code in codes]
    order = np.argsort([TONES.index(name) for name in names], kind="stable")
    names = [names[place] for place in order]
    return Pass(family, images[order], lines(names, values[order]), needy(names))
