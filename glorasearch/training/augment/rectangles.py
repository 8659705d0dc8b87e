"""Rectangles of images: erased, or pasted from others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glorasearch.training.augment.config import Erasing
from glorasearch.training.augment.draws import NOISE
from glorasearch.training.augment.policy import Floats

Floats32 = npt.NDArray[np.float32]


def edges(rectangles: Floats, height: int, width: int) -> tuple[Floats32, Floats32]:
    """Columns `(n, width)` and rows `(n, height)` with a 1 where a pixel's middle is in rectangles `(n, 4)`, else 0.

    Rectangles are left, top, right, bottom, as shares. On the CPU, where they were drawn: a pixel is inside if its
    column and its row are.
    """
    left, top, right, bottom = rectangles.astype(np.float32).T[..., None]
    across, along = ((np.arange(size, dtype=np.float32) + np.float32(0.5)) / size for size in (width, height))
    return tuple(
        ((first <= middle) & (middle < last)).astype(np.float32)
        for first, middle, last in ((left, across, right), (top, along, bottom))
    )


class Eraser:
    """Random erasing (Zhong et al. 2020) of normalised images."""

    def __init__(self, mode: Erasing) -> None:
        self._mode = mode
        self._noise: dict[tuple[torch.device, int], Tensor] = {}

    def __call__(self, images: Tensor, across: Tensor, along: Tensor, colour: Tensor, begin: Tensor) -> Tensor:
        """Images `(n, C, H, W)` with rectangles, by their `edges`, of colours `(n, 3)`, or of noise from `(n,)` on."""
        count, channels, height, width = images.shape
        if self._mode == "pixel":
            size = channels * height * width
            filling = self._noise_on(images.device, size).unfold(0, size, 1)[begin].view_as(images)
        elif self._mode == "rand":
            filling = colour[:, :channels].reshape(count, channels, 1, 1)
        else:
            filling = images.new_zeros(1)
        return torch.where((along.view(count, 1, -1, 1) * across.view(count, 1, 1, -1)).bool(), filling, images)

    def _noise_on(self, device: torch.device, size: int) -> Tensor:
        """Numbers from which so many can be read wherever that begins: after the last one comes the first again."""
        if (device, size) not in self._noise:
            numbers = np.random.default_rng(0).standard_normal(NOISE, dtype=np.float32)
            self._noise[device, size] = torch.from_numpy(np.resize(numbers, NOISE + size)).to(device)
        return self._noise[device, size]


class Mixing:
    """Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019): how images are mixed with others, found on the CPU."""

    def __init__(self, share: Floats, pasted: Floats, height: int, width: int) -> None:
        """`share (n,)` of an image where it is blended, `pasted (n, 4)` where the other one is pasted."""
        self._across, along = edges(pasted, height, width)
        self._share = share.astype(np.float32)
        self._along = self._share[:, None] * along
        box = self._across.sum(1) * along.sum(1) / np.float32(height * width)
        self.own: Floats32 = self._share * (1 - box)
        """`(n,)`: the share of each image in its mixture, by pixels where another is pasted."""

    @property
    def arrays(self) -> tuple[Floats32, Floats32, Floats32]:
        """What `mix_images` needs on the device: shares `(n,)`; rows `(n, H)` times them, and columns `(n, W)`."""
        return self._share, self._along, self._across


def mix_images(images: Tensor, others: Tensor, share: Tensor, along: Tensor, across: Tensor) -> Tensor:
    """Images `(n, C, H, W)`, normalised, mixed with others, by `Mixing.arrays`."""
    count = len(images)
    rows, columns = along.view(count, 1, -1, 1), across.view(count, 1, 1, -1)
    kept = torch.addcmul(share.view(-1, 1, 1, 1), rows, columns, value=-1)  # none of the image where another is pasted
    return torch.lerp(others, images, kept)  # an image of share 1 is itself, to the bit


def mix_targets(targets: Tensor, others: Tensor, share: Tensor, classes: int) -> Tensor:
    """`(n, K)` float32: labels `(n,)` as probabilities, or targets `(n, K)`, mixed by shares `(n,)`."""
    if targets.ndim == 1 and not targets.is_floating_point():
        mixed = share.new_zeros(len(share), classes)
        mixed.scatter_(1, targets[:, None], share[:, None])
        return mixed.scatter_add_(1, others[:, None], 1 - share[:, None])
    own = share.view(-1, *[1] * (targets.ndim - 1))
    return own * targets + (1 - own) * others
