"""The images of the search split in chunks of one size, in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from glorasearch.data import SearchSplit

RESIDENT_BYTES: Final = 2**30
"""Images that take at most this many bytes as float32 are kept on the device, so that a chunk is a slice; not on a CPU
where the split keeps them so itself: taking a chunk out is nothing beside its forward."""


class Chunks:
    """N images in ceil(N / size) chunks; the last one is filled up with its last image repeated, whose scores count
    for nothing."""

    def __init__(
        self, split: SearchSplit, size: int, order: Tensor, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        """`order` holds the N positions in the split, first to last; `dtype` is what the images are handed out in."""
        self.images = len(split)
        self.count = -(-self.images // size)
        self.size = -(-self.images // self.count)
        """Images of a chunk: as many as were asked for, or fewer if the chunks are the more even for it."""
        self.labels = split.labels[order].to(device)
        """`(N,)`, in the order of the chunks."""
        padded = torch.cat([order, order[-1:].expand(self.count * self.size - self.images)])
        self._split, self._device, self._dtype = split, device, dtype
        self._positions = torch.split(padded, self.size)
        self._resident: list[Tensor] | None = None
        small = 4 * self.images * split.spec.image_bytes <= RESIDENT_BYTES
        if small and not (device.type == "cpu" and split.keeps_normalised):  # which one copy is enough of
            first = self._batch(self._positions[0])
            whole = first.new_empty(len(padded), *first.shape[1:])
            self._resident = list(torch.split(whole, self.size))
            for place, positions in zip(self._resident, self._positions, strict=True):
                place.copy_(self._batch(positions))

    def __iter__(self) -> Iterator[Tensor]:
        """The chunks, `(size, C, H, W)` each."""
        return iter(self._resident or map(self._batch, self._positions))

    def _batch(self, positions: Tensor) -> Tensor:
        return self._split.batch(positions, self._device)[0].to(self._dtype)

    @property
    def first(self) -> Tensor:
        """The first chunk."""
        return next(iter(self))
