"""Operations that change colours, for a batch at once with an argument for each image.

Images are `(n, C, H, W)` float32 on the scale 0 to 255, arguments `(n, 1, 1, 1)` if nothing else is said. Results are
those of Pillow's operations in timm, up to the rounding to whole numbers. What changes each value by itself is in
`tones`.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as v2

_TAPS: Final = 6
"""Pixels on either side that count for a Gaussian blur; its deviation is at most 2."""


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Towards the image in greys, or away from it."""
    return _blend(images, _grey(images), factor)


def jitter(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Brightness, contrast and saturation by `factors (n, 3)`, one after the other as `order (n, 3)` int64 says."""
    stages = [one.T[..., None, None, None] for one in (factors.gather(1, order), order == 1, order == 2)]
    for factor, of_mean, of_grey in zip(*stages, strict=True):
        grey = _grey(images)
        mean = torch.where(of_mean, grey.mean(dim=(1, 2, 3), keepdim=True), 0)
        images = _blend(images, torch.where(of_grey, grey, mean), factor)
    return images


def equalize(images: Tensor) -> Tensor:
    """Levels spread so that each is as frequent as the others."""
    equal: Tensor = v2.equalize(images.round().to(torch.uint8))
    return equal.to(images.dtype)


def posterize(images: Tensor, step: Tensor) -> Tensor:
    """Whole numbers, rounded down to multiples of a step."""
    return images.round().div_(step, rounding_mode="floor").mul_(step)


def sharpness(images: Tensor, numbers: Tensor) -> Tensor:
    """Towards the smoothed image, or away from it; the edge stays. In the images' own memory.

    `numbers (n, 2)` say how much of the image is in the result, and how much of the mean of its 3 x 3 neighbours.
    """
    near = F.avg_pool2d(images, 3, stride=1)
    own, others = numbers.view(-1, 2, 1, 1, 1).unbind(1)
    images[..., 1:-1, 1:-1].mul_(own).addcmul_(near, others).clamp_(0, 255)
    return images


def gaussian_blur(images: Tensor, deviation: Tensor) -> Tensor:
    """By a deviation `(n, 1)` in pixels; beyond the edge there is the edge."""
    places = torch.arange(-_TAPS, _TAPS + 1, device=images.device, dtype=images.dtype)
    weights = torch.exp(-0.5 * (places / deviation) ** 2)
    weights = weights / weights.sum(1, keepdim=True)
    for axis in (-1, -2):
        size = images.shape[axis]
        pad = (_TAPS, _TAPS, 0, 0) if axis == -1 else (0, 0, _TAPS, _TAPS)
        wide = F.pad(images, pad, mode="replicate")
        images = torch.zeros_like(images)
        for tap in range(2 * _TAPS + 1):
            images.addcmul_(wide.narrow(axis, tap, size), weights[:, tap].view(-1, 1, 1, 1))
    return images


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images
    grey: Tensor = v2.rgb_to_grayscale(images)
    return grey


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(other.expand_as(images), images, factor).clamp_(0, 255)
