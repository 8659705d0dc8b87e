"""Operations that change each value by itself, all of them at once: two lines, one below a bound and one from it on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from glorasearch.training.augment.policy import Floats

GREY: Final = (0.2989, 0.587, 0.114)
"""Shares of red, green and blue in a grey, as in torchvision."""
_Line = tuple[float, float, float, float, float]
_LINES: Final[dict[str, Callable[[float], _Line]]] = {
    "Contrast": lambda factor: (-np.inf, 1, 0, factor, 1 - factor),
    "AutoContrast": lambda _: (-np.inf, 1, 0, 255, 0),
    "Brightness": lambda factor: (-np.inf, 1, 0, factor, 0),
    "Invert": lambda _: (-np.inf, 1, 0, -1, 255),
    "Solarize": lambda bound: (bound - 0.5, 1, 0, -1, 255),
    "SolarizeAdd": lambda added: (127.5, 1, added, 1, 0),
}
"""Argument of an operation → the bound; slope and offset below it, and from it on.

Of contrast the offset is still to be multiplied by the image's mean grey, of auto contrast the slope to be divided by
its range. Bounds are half a level below timm's, which are of whole numbers: no rounding carries a level over them.
"""
TONES: Final = tuple(_LINES)
_NEEDY: Final = TONES[:2]
"""Those that need something of the image, too; in a pass their images come first."""


def lines(names: Sequence[str], arguments: Floats) -> Floats:
    """`(n, 5)` of operations and their arguments `(n,)`."""
    return np.array([_LINES[name](value) for name, value in zip(names, arguments.tolist(), strict=True)], np.float64)


def needy(names: Sequence[str]) -> tuple[int, ...]:
    """How many of the operations are for contrast, and how many for auto contrast."""
    return tuple(names.count(name) for name in _NEEDY)


def tones(images: Tensor, lines: Tensor, first: tuple[int, ...]) -> Tensor:
    """Images `(n, C, H, W)` float32, from 0 to 255, by their lines `(n, 5)`, which are overwritten.

    The first images are for contrast, those after them for auto contrast; `first` is how many, as of `needy`.
    """
    greys, stretched = first
    channels = images.shape[1]
    upper = lines[:, 3:, None].repeat(1, 1, channels) if stretched else lines[:, 3:, None]
    slope, offset = upper.unbind(1)  # (n, C) or (n, 1)
    if greys:
        offset[:greys] *= _mean_grey(images[:greys])
    if stretched:
        own = slice(greys, greys + stretched)
        low, high = torch.aminmax(images[own].flatten(2), dim=2)
        spread = high - low
        flat = spread < 1  # one level alone: it stays, and what a resampling rounded is not stretched
        slope[own].div_(spread.masked_fill_(flat, 255))
        offset[own].addcmul_(low.masked_fill_(flat, 0), slope[own], value=-1)
    bound, lower_slope, lower_offset = lines[:, :3].view(-1, 3, 1, 1, 1).unbind(1)
    above = torch.addcmul(offset[..., None, None], images, slope[..., None, None])
    below = torch.addcmul(lower_offset, images, lower_slope)
    return torch.where(images < bound, below, above).clamp_(0, 255)


def _mean_grey(images: Tensor) -> Tensor:
    """`(n, 1)` of `(n, C, H, W)`."""
    means = images.mean(dim=(2, 3))
    if images.shape[1] == 1:
        return means
    red, green, blue = means.unbind(1)
    return (red * GREY[0]).add_(green, alpha=GREY[1]).add_(blue, alpha=GREY[2])[:, None]
