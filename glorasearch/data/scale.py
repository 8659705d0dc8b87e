"""One scale for all pixels of a data set that have more than 8 bits; refused where nothing says which."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from glorasearch.data.examine import Examined
from glorasearch.data.reading import FULL_SCALE, Depth, Reading
from glorasearch.errors import DataError

EVIDENTLY_FEWER = 2**14
"""If no pixel of all 16-bit images reaches this, they hold fewer bits, such as a camera's 12."""


@dataclass
class _Found:
    example: str
    images: int = 0
    smallest: float = float("inf")
    largest: float = float("-inf")

    def add(self, seen: Examined) -> None:
        self.images += 1
        if seen.smallest is not None and seen.largest is not None:
            self.smallest, self.largest = min(self.smallest, seen.smallest), max(self.largest, seen.largest)


def check_scale(subject: str, images: Iterable[tuple[str, Examined]], reading: Reading) -> str:
    """Check that the pixels have one scale that is known; returns what to say of it, empty if all have 8 bits.

    Args:
        subject: the data set, for messages.
        images: name of each image and what was found in it.
        reading: how they will be read.

    Raises:
        DataError: if `data.pixel_range` is missing, or cannot be applied.
    """
    found: dict[Depth, _Found] = {}
    for name, seen in images:
        if seen.depth != "8 bits":
            found.setdefault(seen.depth, _Found(name)).add(seen)
    said = []
    for depth, one in found.items():
        _check(subject, depth, one, reading)
        low, high = FULL_SCALE if depth == "16 bits a colour" else reading.pixel_range or FULL_SCALE
        whose = f"{one.images} images have" if one.images > 1 else "1 image has"
        said.append(f"{whose} pixels of {depth}: {low:g} is black and {high:g} white in all of them")
    return "; ".join(said)


def _check(subject: str, depth: Depth, found: _Found, reading: Reading) -> None:
    start = f"{subject}: {found.images} images, such as {found.example}, have pixels of {depth}"
    if depth == "16 bits a colour":
        if reading.pixel_range == FULL_SCALE:
            return
        if reading.pixel_range is not None or found.largest < EVIDENTLY_FEWER // 256:
            raise DataError(
                f"{start}, of which Pillow reads the upper 8 (up to {found.largest:g} of 255 here), so that no other "
                "scale than the full one can be applied; save them with 8 bits, or set "
                "data.pixel_range = [0, 65535] if they are meant to be that dark"
            )
        return
    if reading.pixel_range is not None:
        return
    values = f"with values from {found.smallest:g} to {found.largest:g}"
    if depth == "16 bits":
        if found.largest < EVIDENTLY_FEWER:
            raise DataError(
                f"{start}, but {values}: they use a small part of the scale and would be nearly black; set "
                f"data.pixel_range = {_suggested(found)}, or [0, 65535] if they are meant to be that dark"
            )
        return
    raise DataError(
        f"{start} {values}, and no file says which is white; set data.pixel_range = [black, white] for the whole data "
        f"set, such as {_suggested(found)}"
    )


def _suggested(found: _Found) -> str:
    """A range that holds all values: whole bits, or 0 to 1."""
    if found.smallest < 0:
        return f"[{found.smallest:g}, {found.largest:g}]"
    if found.largest <= 1:
        return "[0, 1]"
    return f"[0, {2 ** math.ceil(found.largest).bit_length() - 1}]"
