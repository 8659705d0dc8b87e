"""Pixels where they are asked for: on a GPU, if they fit there, copied once."""

from __future__ import annotations

import torch
from torch import Tensor

from glorasearch.data.pixels import Pixels

DEVICE_CACHE_BYTES = 2**30
"""Resident images of at most this many uint8 bytes are copied to a GPU once."""


class NearPixels:
    """One view of a split's images; `image_bytes` is the size of each."""

    def __init__(self, pixels: Pixels, image_bytes: int) -> None:
        self.pixels = pixels
        self._small = len(pixels) * image_bytes <= DEVICE_CACHE_BYTES
        self._on_device: dict[torch.device, Tensor] = {}

    def gather(self, indices: Tensor, places: Tensor) -> Tensor:
        """`(n, C, H, W)` uint8 on the device of `places`, which are the `indices (n,)` there."""
        device = places.device
        if device.type == "cpu" or not self.pixels.resident or not self._small:
            found = self.pixels.gather(indices.to("cpu", torch.int64))
            return found if device.type == "cpu" else found.pin_memory().to(device, non_blocking=True)
        if device not in self._on_device:
            self._on_device[device] = self.pixels.gather(torch.arange(len(self.pixels))).to(device)
        return self._on_device[device][places]
