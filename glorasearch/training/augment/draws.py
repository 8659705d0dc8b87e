"""What is done to each image of a step: drawn on the CPU, from one generator, before any image is touched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final, Self

import numpy as np

from glorasearch.training.augment.config import Augmentation
from glorasearch.training.augment.policy import Floats, Ints

ATTEMPTS: Final = 10
"""Draws of a crop that may stick out of the image before the middle is taken, as in torchvision."""
ERASED: Final = 0.02, 1 / 3
"""Smallest and largest area of random erasing."""
ERASED_ASPECT: Final = 0.3
"""Its smallest aspect ratio; the largest is the inverse."""
NOISE: Final = 2**20
"""Normal numbers of which the noise of random erasing is cut out."""
_COLOURS: Final = 3


@dataclass(frozen=True, eq=False)
class Draws:
    """One row an image; places and sizes are shares of the image's edges."""

    crop: Floats
    """`(n, 4)`: centre x and y, width, height."""
    flips: Floats
    """`(n, 2)`: −1 for a flip, horizontal and vertical, else 1."""
    operations: Ints
    """`(n, layers)`: as `Policy.draw`."""
    arguments: Floats
    """`(n, layers)`"""
    jitter: Floats
    """`(n, 3)`: factors of brightness, contrast and saturation."""
    jitter_order: Ints
    """`(n, 3)`: which of the three comes first, second, third."""
    erased: Floats
    """`(n, 4)`: left, top, right, bottom; all 0 where nothing is erased."""
    colour: Floats
    """`(n, 3)`: what is left there, in standard deviations."""
    noise: Ints
    """`(n,)`: where its noise begins among `NOISE` numbers."""
    share: Floats
    """`(n,)`: of the image in a mixture, by blending; 1 for none."""
    pasted: Floats
    """`(n, 4)`: where another image is pasted, as `erased`."""

    def __len__(self) -> int:
        return len(self.crop)

    def rows(self, chosen: Ints) -> Self:
        """Those of some images `(k,)`."""
        return type(self)(**{one.name: getattr(self, one.name)[chosen] for one in fields(self)})

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Of several batches, one after the other."""
        return cls(**{one.name: np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(cls)})


def draw(augmentation: Augmentation, rng: np.random.Generator, images: int) -> Draws:
    """The draws of a batch; each part draws from its own child of the generator, so that one changes no other."""
    crops, flips, policy, colours, erasing, mixing = rng.spawn(6)
    if augmentation.policy is None:
        operations, arguments = np.full((images, 0), -1), np.zeros((images, 0))
    else:
        operations, arguments = augmentation.policy.draw(policy, images)
    probabilities = augmentation.hflip, augmentation.vflip
    width = np.minimum(np.array(augmentation.jitter), 10)
    low, high = np.maximum(0, 1 - width), 1 + width
    share, pasted = _mixing(augmentation, mixing, images)
    return Draws(
        crop=_crops(augmentation, crops, images),
        flips=np.where(flips.random((images, 2)) < probabilities, -1.0, 1.0),
        operations=operations,
        arguments=arguments,
        jitter=low + (high - low) * colours.random((images, 3)),
        jitter_order=np.argsort(colours.random((images, 3)), axis=1),
        erased=_erased(augmentation, erasing, images),
        colour=erasing.standard_normal((images, _COLOURS)),
        noise=erasing.integers(NOISE, size=images),
        share=share,
        pasted=pasted,
    )


def _crops(augmentation: Augmentation, rng: np.random.Generator, images: int) -> Floats:
    """Boxes of a random area and aspect ratio at a random place; the middle where `ATTEMPTS` of them stick out."""
    shape = (images, ATTEMPTS)
    low, high = augmentation.scale
    area = low + (high - low) * rng.random(shape)
    first, last = (math.log(value) for value in augmentation.ratio)
    aspect = np.exp(first + (last - first) * rng.random(shape))
    width, height = np.sqrt(area * aspect), np.sqrt(area / aspect)
    fits = (width <= 1) & (height <= 1)
    chosen = np.argmax(fits, axis=1)[:, None]
    size = np.stack([np.take_along_axis(edge, chosen, 1)[:, 0] for edge in (width, height)], axis=1)
    nearest = min(max(1.0, augmentation.ratio[0]), augmentation.ratio[1])
    middle = np.array([min(1.0, nearest), min(1.0, 1 / nearest)])
    found = np.any(fits, axis=1)[:, np.newaxis]
    size = np.where(found, size, middle)
    place = np.where(found, rng.random((images, 2)), 0.5)
    return np.concatenate([size / 2 + (1 - size) * place, size], axis=1)


def _erased(augmentation: Augmentation, rng: np.random.Generator, images: int) -> Floats:
    shape = (images, ATTEMPTS)
    wanted = rng.random(images) < augmentation.reprob
    area = rng.uniform(*ERASED, size=shape)
    aspect = np.exp(rng.uniform(math.log(ERASED_ASPECT), -math.log(ERASED_ASPECT), size=shape))
    width, height = np.sqrt(area / aspect), np.sqrt(area * aspect)
    fits = (width < 1) & (height < 1)
    chosen = np.argmax(fits, axis=1)[:, None]
    size = np.stack([np.take_along_axis(edge, chosen, 1)[:, 0] for edge in (width, height)], axis=1)
    start = (1 - size) * rng.random((images, 2))
    found = (wanted & np.any(fits, axis=1))[:, np.newaxis]
    return np.where(found, np.concatenate([start, start + size], axis=1), 0.0)


def _mixing(augmentation: Augmentation, rng: np.random.Generator, images: int) -> tuple[Floats, Floats]:
    """The shares of blended images, and where others are pasted; an image that is pasted onto is not blended."""
    mixup, cutmix = augmentation.mixup, augmentation.cutmix
    blended = rng.beta(mixup, mixup, size=images) if mixup else np.ones(images)
    kept = rng.beta(cutmix, cutmix, size=images) if cutmix else np.ones(images)
    pastes = rng.random(images) < 0.5 if mixup and cutmix else np.full(images, bool(cutmix))
    half = np.sqrt(1 - kept)[:, None] / 2
    centre = rng.random((images, 2))
    box = np.concatenate([np.maximum(0, centre - half), np.minimum(1, centre + half)], axis=1)
    return np.where(pastes, 1.0, blended), np.where(pastes[:, None], box, 0.0)
