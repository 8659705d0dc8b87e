"""Crops, flips and the operations that move pixels: one affine map an image, one resampling for all of them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from glorasearch.training.augment.draws import Draws
from glorasearch.training.augment.policy import GEOMETRIC, Floats


def maps(draws: Draws, height: int, width: int) -> Floats:
    """`(n, 2, 3)`: from a place in the output to that in the image, both from −1 to 1.

    Crop and flip come first, then the operations of `draws`, about the middle: what they show beyond the crop is the
    image as long as it reaches.
    """
    total = np.tile(np.eye(3), (len(draws), 1, 1))
    total[:, 0, 2], total[:, 1, 2] = 2 * draws.crop[:, 0] - 1, 2 * draws.crop[:, 1] - 1
    total[:, 0, 0], total[:, 1, 1] = draws.crop[:, 2] * draws.flips[:, 0], draws.crop[:, 3] * draws.flips[:, 1]
    for codes, values in zip(draws.operations.T, draws.arguments.T, strict=True):
        step = np.tile(np.eye(3), (len(draws), 1, 1))
        for code, name in enumerate(GEOMETRIC):
            at = codes == code
            value = values[at]
            if name == "Rotate":
                step[at, 0, 0] = step[at, 1, 1] = np.cos(value)
                step[at, 0, 1], step[at, 1, 0] = np.sin(value) * height / width, -np.sin(value) * width / height
            elif name == "ShearX":
                step[at, 0, 1] = value * height / width
            elif name == "ShearY":
                step[at, 1, 0] = value * width / height
            else:
                step[at, 0 if name == "TranslateXRel" else 1, 2] = 2 * value
        total = total @ step
    return total[:, :2]


def resample(images: Tensor, theta: Tensor, height: int, width: int, fill: Tensor | None) -> Tensor:
    """`(n, C, height, width)` float32 of images `(n, C, H, W)`, uint8 or float32, by maps `(n, 2, 3)`, bilinear.

    Beyond an image there is its edge, or the colour `fill (C, 1, 1)`.
    """
    # F.affine_grid is a product of matrices with two columns, of a grid that is written for every image.
    across = torch.addcmul(theta[:, None, :, 2], _middles(width, theta.device), theta[:, None, :, 0])
    down = _middles(height, theta.device) * theta[:, None, :, 1]
    grid = across[:, None] + down[:, :, None]
    if fill is None:
        whole = images.to(torch.float32)
        return F.grid_sample(whole, grid, mode="bilinear", padding_mode="border", align_corners=False)
    moved = F.grid_sample(images - fill, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return moved.add_(fill)


@lru_cache(maxsize=64)
def _middles(count: int, device: torch.device) -> Tensor:
    """`(count, 1)`: where the middles of so many pixels are, from -1 to 1."""
    with torch.inference_mode(False):
        return (torch.arange(1 - count, count, 2, dtype=torch.float32) / count)[:, None].to(device)


def flip(images: Tensor, flips: Tensor) -> Tensor:
    """Images `(n, C, H, W)` flipped by `(n, 2)`, as in `Draws.flips`: the same pixels in other places."""
    across, along = (flips[:, axis].view(-1, 1, 1, 1) < 0 for axis in (0, 1))
    images = torch.where(across, images.flip(-1), images)
    return torch.where(along, images.flip(-2), images)
