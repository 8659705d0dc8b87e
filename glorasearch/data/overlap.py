"""Images that are in two splits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glorasearch.errors import DataError

LIMIT = 0.01
"""Fraction of a split's images that may be in another split, too."""
EXAMPLES = 3
PAIRS = (("train", "search"), ("train", "test"), ("search", "test"))


@dataclass(frozen=True)
class PairOverlap:
    """Images of `second` whose content is in `first`, too."""

    first: str
    second: str
    images: int
    fraction: float
    """Of the images of `second`."""
    examples: tuple[tuple[str, str], ...]
    """(image of `first`, image of `second`) with the same content."""


@dataclass(frozen=True)
class OverlapReport:
    """Duplicate images across the splits, by content hash."""

    pairs: tuple[PairOverlap, ...]

    @property
    def images(self) -> int:
        """Duplicates, summed over all pairs."""
        return sum(pair.images for pair in self.pairs)

    @property
    def worst(self) -> float:
        """The largest fraction of any pair."""
        return max(pair.fraction for pair in self.pairs)

    def describe(self) -> dict[str, Any]:
        """JSON for a report: `{"train/search": {"images": ..., "fraction": ..., "examples": [[a, b], ...]}, ...}`."""
        return {
            f"{pair.first}/{pair.second}": {
                "images": pair.images,
                "fraction": pair.fraction,
                "examples": [list(example) for example in pair.examples],
            }
            for pair in self.pairs
        }

    def refuse(self, source: str, allow: bool) -> None:
        """Refuse splits that overlap too much, unless `allow`.

        Args:
            source: the data set, for messages.
            allow: do nothing.

        Raises:
            DataError: if a pair has more duplicates than `LIMIT`.
        """
        wrong = [pair for pair in self.pairs if pair.fraction > LIMIT]
        if allow or not wrong:
            return
        lines = [f"{source}: splits share images, at most {LIMIT:.0%} of a split may be in another, too:"]
        for pair in wrong:
            lines.append(f"{pair.images} images ({pair.fraction:.1%}) of {pair.second} are in {pair.first}, such as")
            lines.extend(f"  {second} = {first}" for first, second in pair.examples)
        lines.append(
            "remove them from one of the splits that the source has; or allow it with data.allow_overlap = true"
        )
        raise DataError("\n  ".join(lines))


def find_overlap(fingerprints: Mapping[str, Sequence[bytes]], name: Callable[[str, int], str]) -> OverlapReport:
    """Compare the content hashes of the three splits.

    Args:
        fingerprints: of each image of `train`, `search` and `test`.
        name: names an image of a split, for examples.
    """
    first_with = {
        role: {content: len(own) - 1 - place for place, content in enumerate(reversed(own))}
        for role, own in fingerprints.items()
    }
    pairs = []
    for first, second in PAIRS:
        shared = [place for place, content in enumerate(fingerprints[second]) if content in first_with[first]]
        examples = tuple(
            (name(first, first_with[first][fingerprints[second][place]]), name(second, place))
            for place in shared[:EXAMPLES]
        )
        fraction = len(shared) / max(1, len(fingerprints[second]))
        pairs.append(PairOverlap(first, second, len(shared), fraction, examples))
    return OverlapReport(tuple(pairs))
