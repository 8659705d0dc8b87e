"""Operations that change colours, for a batch at once with an argument for each image.

Images are `(n, C, H, W)` float32 on the scale 0 to 255, arguments `(n, k)`, k 1 for most. Results are those of Pillow's
operations in timm, up to the rounding to whole numbers. A GPU's time is that of many small kernels here, so operations
that are two lines, one below a bound and one from it on, are done at once for all images of a batch that have one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as v2

from glorasearch.training.augment.policy import OPERATIONS, Floats, Ints

Operation = Callable[[Tensor, Tensor], Tensor]
_TAPS: Final = 6
"""Pixels on either side that count for a Gaussian blur; its deviation is at most 2."""


def _lines(argument: Floats, *rows: float | Floats) -> Floats:
    return np.stack([np.broadcast_to(np.asarray(row, np.float64), argument.shape) for row in rows], axis=1)


LINES: Final[dict[str, Callable[[Floats], Floats]]] = {
    "Brightness": lambda factor: _lines(factor, np.inf, factor, 0, 1, 0),
    "Invert": lambda none: _lines(none, -np.inf, 1, 0, -1, 255),
    "Solarize": lambda bound: _lines(bound, bound, 1, 0, -1, 255),
    "SolarizeAdd": lambda added: _lines(added, 128, 1, added, 1, 0),
}
"""Argument `(n,)` of an operation → `(n, 5)`: the bound; slope and offset below it, and from it on."""


def two_lines(images: Tensor, lines: Tensor) -> Tensor:
    """The operations of `LINES`, by what is there of each image, `(n, 5)`."""
    bound, slope, offset, upper_slope, upper_offset = lines.view(-1, 5, 1, 1, 1).unbind(1)
    below, above = torch.addcmul(offset, images, slope), torch.addcmul(upper_offset, images, upper_slope)
    return torch.where(images < bound, below, above).clamp_(0, 255)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Towards the mean grey of the image, or away from it."""
    return _blend(images, _grey(images).mean(dim=(1, 2, 3), keepdim=True), factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Towards the image in greys, or away from it."""
    return _blend(images, _grey(images), factor)


def jitter(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Brightness, contrast and saturation by `factors (n, 3)`, one after the other as `order (n, 3)` int64 says."""
    for which in order.T:
        own, grey = which.view(-1, 1, 1, 1), _grey(images)
        mean = torch.where(own == 1, grey.mean(dim=(1, 2, 3), keepdim=True), 0)
        factor = factors.gather(1, which[:, None])
        images = _blend(images, torch.where(own == 2, grey, mean), factor)
    return images


def _auto_contrast(images: Tensor, _: Tensor) -> Tensor:
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    return torch.where(high > low, (images - low) * (255 / (high - low).clamp_min(1e-6)), images)


def _equalize(images: Tensor, _: Tensor) -> Tensor:
    equal: Tensor = v2.equalize(images.round().to(torch.uint8))
    return equal.to(images.dtype)


def _posterize(images: Tensor, bits: Tensor) -> Tensor:
    step = torch.exp2(8 - bits).view(-1, 1, 1, 1)
    return (images.round() / step).floor() * step


def _sharpness(images: Tensor, factor: Tensor) -> Tensor:
    smooth = images.clone()
    inner = images[..., 1:-1, 1:-1]
    smooth[..., 1:-1, 1:-1] = (9 * F.avg_pool2d(images, 3, stride=1) + 4 * inner) / 13
    return _blend(images, smooth, factor)


def _gaussian_blur(images: Tensor, deviation: Tensor) -> Tensor:
    places = torch.arange(-_TAPS, _TAPS + 1, device=images.device, dtype=images.dtype)
    weights = torch.exp(-0.5 * (places / deviation.view(-1, 1)) ** 2)
    weights = weights / weights.sum(1, keepdim=True)
    for axis in (-1, -2):
        size = images.shape[axis]
        pad = (_TAPS, _TAPS, 0, 0) if axis == -1 else (0, 0, _TAPS, _TAPS)
        wide = F.pad(images, pad, mode="replicate")
        images = sum(
            (wide.narrow(axis, tap, size) * weights[:, tap].view(-1, 1, 1, 1) for tap in range(2 * _TAPS + 1)),
            start=torch.zeros_like(images),
        )
    return images


COLOUR_OPERATIONS: Final[dict[str, Operation]] = {
    "AutoContrast": _auto_contrast,
    "Equalize": _equalize,
    "Posterize": _posterize,
    "Color": saturation,
    "Contrast": contrast,
    "Sharpness": _sharpness,
    "Desaturate": saturation,
    "GaussianBlur": _gaussian_blur,
}
"""By their names in `OPERATIONS`; the others are in `LINES`."""


def grouped(codes: Ints, arguments: Floats) -> Iterator[tuple[Operation, Ints, Floats]]:
    """Operations, the images `(k,)` that each is for, and their arguments, of a layer's codes and arguments, `(n,)`."""
    lines = {OPERATIONS.index(name): rows for name, rows in LINES.items()}
    chosen = np.flatnonzero(np.isin(codes, list(lines)))
    if len(chosen):
        rows = [lines[code](arguments[at : at + 1]) for at, code in zip(chosen, codes[chosen], strict=True)]
        yield two_lines, chosen, np.concatenate(rows)
    for name, operation in COLOUR_OPERATIONS.items():
        chosen = np.flatnonzero(codes == OPERATIONS.index(name))
        if len(chosen):
            yield operation, chosen, arguments[chosen, None]


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images
    grey: Tensor = v2.rgb_to_grayscale(images)
    return grey


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(other.expand_as(images), images, factor.view(-1, 1, 1, 1)).clamp_(0, 255)
