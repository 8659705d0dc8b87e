"""Rectangles of images: erased, or pasted from others."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from glorasearch.training.augment.config import Erasing
from glorasearch.training.augment.draws import NOISE


def inside(rectangles: Tensor, height: int, width: int) -> Tensor:
    """`(n, 1, height, width)` bool: pixels whose middle is in rectangles `(n, 4)`: left, top, right, bottom, shares."""
    left, top, right, bottom = rectangles.view(-1, 4, 1, 1, 1).unbind(1)
    across = (torch.arange(width, device=rectangles.device) + 0.5) / width
    along = ((torch.arange(height, device=rectangles.device) + 0.5) / height)[:, None]
    return (across >= left) & (across < right) & (along >= top) & (along < bottom)


class Eraser:
    """Random erasing (Zhong et al. 2020) of normalised images."""

    def __init__(self, mode: Erasing) -> None:
        self._mode = mode
        self._noise: dict[torch.device, Tensor] = {}

    def __call__(self, images: Tensor, rectangles: Tensor, colour: Tensor, begin: Tensor) -> Tensor:
        """Images `(n, C, H, W)` with rectangles `(n, 4)` of colours `(n, 3)`, or noise that begins at `(n,)` int64."""
        count, channels, height, width = images.shape
        if self._mode == "pixel":
            places = begin[:, None] + torch.arange(channels * height * width, device=images.device)
            filling = self._noise_on(images.device)[places % NOISE].view_as(images)
        elif self._mode == "rand":
            filling = colour[:, :channels].reshape(count, channels, 1, 1)
        else:
            filling = images.new_zeros(1)
        return torch.where(inside(rectangles, height, width), filling, images)

    def _noise_on(self, device: torch.device) -> Tensor:
        if device not in self._noise:
            numbers = np.random.default_rng(0).standard_normal(NOISE, dtype=np.float32)
            self._noise[device] = torch.from_numpy(numbers).to(device)
        return self._noise[device]


def pixel_box(rectangles: Tensor, height: int, width: int) -> Tensor:
    """`(n,)`: the share of an image's pixels in each rectangle."""
    return inside(rectangles, height, width).to(torch.float32).mean(dim=(1, 2, 3))


def mix_images(images: Tensor, others: Tensor, share: Tensor, pasted: Tensor) -> tuple[Tensor, Tensor]:
    """Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) of images with others, `(n, C, H, W)` each.

    Args:
        images: normalised.
        others: with what each is mixed.
        share: `(n,)`, of the image where it is blended.
        pasted: `(n, 4)`, where the other one is pasted.

    Returns:
        The mixtures, and the share `(n,)` of each image in its own: by pixels where another is pasted.
    """
    height, width = images.shape[-2:]
    mixed = torch.lerp(others, images, share.view(-1, 1, 1, 1))  # an image of share 1 is itself, to the bit
    mixed = torch.where(inside(pasted, height, width), others, mixed)
    return mixed, share * (1 - pixel_box(pasted, height, width))


def mix_targets(targets: Tensor, others: Tensor, share: Tensor, classes: int) -> Tensor:
    """`(n, K)` float32: labels `(n,)` as probabilities, or targets `(n, K)`, mixed by shares `(n,)`."""
    first, second = (
        torch.nn.functional.one_hot(one, classes) if one.ndim == 1 and not one.is_floating_point() else one
        for one in (targets, others)
    )
    own = share.view(-1, *[1] * (first.ndim - 1))
    return own * first + (1 - own) * second
