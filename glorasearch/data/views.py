"""The views of an image that are kept: what the backbone sees, and a larger one that augmentations crop from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final, Literal

from glorasearch.data.config import MOST_PIXELS
from glorasearch.data.examine import Examined
from glorasearch.data.input_spec import InputSpec

View = Literal["plain", "larger"]
LARGER: Final = 1.25
"""Edge of the larger view over that of the input: 280 pixels for 224, 1.56 times the memory of the plain one."""
GIB: Final = 2**30
_FIRST: Final[tuple[tuple[str, View], ...]] = (
    ("search", "plain"),
    ("train", "larger"),
    ("search", "larger"),
    ("train", "plain"),
    ("test", "plain"),
)
"""The order in which views claim memory: the most often read first."""


def larger_spec(spec: InputSpec, found: Mapping[str, Collection[Examined]]) -> InputSpec | None:
    """The larger view of images that are trained on: up to their edges, with `LARGER` times the pixels of an edge.

    None if it would hold no more than the plain one: no image is larger than the input, and nothing is cut off.
    """
    least = min(spec.height, spec.width)
    if spec.crop_pct >= 1 and not any(image.edge > least for images in found.values() for image in images):
        return None
    return enlarged(spec)


def enlarged(spec: InputSpec) -> InputSpec:
    """The larger view of an input, whether or not the images have so many pixels."""
    height, width = (min(MOST_PIXELS, round(LARGER * edge)) for edge in (spec.height, spec.width))
    return replace(spec, height=height, width=width, crop_pct=max(1.0, spec.crop_pct))


def views_that_fit(
    images: Mapping[str, int], specs: Mapping[View, InputSpec], limit_gib: float
) -> set[tuple[str, View]]:
    """The views of splits to keep in memory; they do not depend on which splits are wanted.

    Args:
        images: split → how many it has.
        specs: view → its size.
        limit_gib: of all of them.
    """
    left = limit_gib * GIB
    kept = set()
    for role, view in _FIRST:
        if view in specs and (size := images[role] * specs[view].image_bytes) <= left:
            kept.add((role, view))
            left -= size
    return kept
