"""RandAugment and AutoAugment: timm's strings, and draws of what is done to each image of a batch."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
AUTO_POLICIES: Final = ("original", "originalr", "v0", "v0r", "3a")
_RAND_SECTION: Final = r"m\d+|n\d+|p[\d.]+|mstd[\d.]+|mmax\d+|inc[01]|t(weights|3aw?)"
MOST_LAYERS: Final = 16
GEOMETRIC: Final = ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
"""Operations that move pixels; the others change colours."""


def _enhance(level: Floats, sign: Floats) -> Floats:
    return level * 1.8 + 0.1


def _enhance_more(level: Floats, sign: Floats) -> Floats:
    return np.maximum(0.1, 1 + sign * level * 0.9)


_LEVELS: Final[dict[str, Callable[[Floats, Floats], Floats]]] = {
    "Rotate": lambda level, sign: sign * level * math.radians(30),
    "ShearX": lambda level, sign: sign * level * 0.3,
    "ShearY": lambda level, sign: sign * level * 0.3,
    "TranslateXRel": lambda level, sign: sign * level * 0.45,
    "TranslateYRel": lambda level, sign: sign * level * 0.45,
    "Posterize": lambda level, sign: np.maximum(1, np.floor(level * 4)),
    "PosterizeIncreasing": lambda level, sign: np.maximum(1, 4 - np.floor(level * 4)),
    "PosterizeOriginal": lambda level, sign: 4 + np.floor(level * 4),
    "Solarize": lambda level, sign: np.minimum(256, np.floor(level * 256)),
    "SolarizeIncreasing": lambda level, sign: 256 - np.minimum(256, np.floor(level * 256)),
    "SolarizeAdd": lambda level, sign: np.minimum(128, np.floor(level * 110)),
    "Color": _enhance,
    "ColorIncreasing": _enhance_more,
    "Contrast": _enhance,
    "ContrastIncreasing": _enhance_more,
    "Brightness": _enhance,
    "BrightnessIncreasing": _enhance_more,
    "Sharpness": _enhance,
    "SharpnessIncreasing": _enhance_more,
    "Desaturate": lambda level, sign: 1 - np.clip(0.5 + 0.5 * level, 0.5, 1),
    "GaussianBlur": lambda level, sign: np.clip(0.1 + 1.9 * level, 0.1, 2.0),
    "GaussianBlurRand": lambda level, sign: np.clip(level, 0, 1),
}
"""Operation → its argument by level, from 0 to 1, and sign, as in `timm.data.auto_augment`. Without an entry it has
none. One bit is left at least: Pillow refuses none, which would be a black image."""
OPERATIONS: Final = (
    *GEOMETRIC,
    "AutoContrast",
    "Equalize",
    "Invert",
    "Posterize",
    "Solarize",
    "SolarizeAdd",
    "Color",
    "Contrast",
    "Brightness",
    "Sharpness",
    "Desaturate",
    "GaussianBlur",
)
"""What is done to pixels; timm has several scales of arguments for some."""


class _Op(NamedTuple):
    name: str
    probability: float
    magnitude: float


@dataclass(frozen=True)
class Policy:
    """What is drawn for an image: one of some sequences of operations, or some operations out of a list."""

    ops: tuple[_Op, ...]
    sequences: tuple[tuple[int, ...], ...]
    """Of operations, one of which is drawn; empty if `layers` operations are drawn."""
    layers: int
    weights: tuple[float, ...] | None
    """Probabilities of the operations, drawn without replacement then."""
    spread: float
    """Standard deviation of magnitudes; infinite: uniform from 0 to the magnitude."""
    most: float

    @property
    def geometric(self) -> bool:
        """Whether it can move pixels."""
        return any(op.name in GEOMETRIC for op in self.ops)

    def draw(self, rng: np.random.Generator, images: int) -> tuple[Ints, Floats]:
        """`(images, layers)` twice: the operation, by its place in `OPERATIONS`, or -1, and its argument."""
        chosen = self._choose(rng, images)
        shape = chosen.shape
        applied = rng.random(shape) < np.array([op.probability for op in self.ops] + [0.0])[chosen]
        magnitude = np.array([op.magnitude for op in self.ops] + [0.0])[chosen]
        if math.isinf(self.spread):
            magnitude = rng.random(shape) * magnitude
        elif self.spread:
            magnitude = magnitude + self.spread * rng.standard_normal(shape)
        level = np.clip(magnitude, 0, self.most) / 10
        sign = np.where(rng.random(shape) < 0.5, -1.0, 1.0)
        free = rng.random(shape)
        codes, values = np.full(shape, -1), np.zeros(shape)
        for number, op in enumerate(self.ops):
            at = applied & (chosen == number)
            codes[at] = OPERATIONS.index(_plain(op.name))
            if op.name in _LEVELS:
                values[at] = _LEVELS[op.name](level[at], sign[at])
            if op.name == "GaussianBlurRand":
                values[at] = 0.1 + free[at] * (2 * values[at] - 0.1)
        return codes, values

    def _choose(self, rng: np.random.Generator, images: int) -> Ints:
        """`(images, layers)`: numbers of operations; that of none is their count."""
        if self.sequences:
            widest = max(len(one) for one in self.sequences)
            padded = np.array([[*one, *[len(self.ops)] * (widest - len(one))] for one in self.sequences])
            return np.asarray(padded[rng.integers(len(padded), size=images)])
        if self.weights is None:
            return rng.integers(len(self.ops), size=(images, self.layers))
        keys = rng.exponential(size=(images, len(self.ops))) / np.array(self.weights)  # Efraimidis and Spirakis 2006
        return np.argsort(keys, axis=1, kind="stable")[:, : self.layers]


def _plain(name: str) -> str:
    """The operation of one of timm's names."""
    return name.removesuffix("Increasing").removesuffix("Original").removesuffix("Rand")


@cache
def parse_policy(text: str) -> Policy:
    """The policy of a string such as `rand-m9-mstd0.5-inc1` or `original-mstd0.5`, read by timm.

    Raises:
        ValueError: if it is none.
    """
    kind = text.split("-")[0]
    wrong = (
        f"auto_augment is {text!r}; expected RandAugment such as rand-m9-mstd0.5-inc1 (m, n, p, mstd, mmax, inc, t), "
        f"or one of {', '.join(AUTO_POLICIES)}, with -mstd<number> or without"
    )
    allowed = _RAND_SECTION if kind == "rand" else r"mstd[\d.]+"
    if not (kind == "rand" or kind in AUTO_POLICIES) or not all(
        re.fullmatch(allowed, part) for part in text.split("-")[1:]
    ):
        raise ValueError(wrong)  # timm leaves out what it does not know
    from timm.data import auto_augment  # timm takes a second to import

    hparams: dict[str, Any] = {}
    try:
        make = auto_augment.rand_augment_transform if kind == "rand" else auto_augment.auto_augment_transform
        made = make(text, hparams | {"translate_pct": 0.45})
    except (AssertionError, ValueError, KeyError, TypeError) as error:
        raise ValueError(wrong) from error
    groups = [made.ops] if kind == "rand" else made.policy
    ops = tuple(_Op(op.name, float(op.prob), float(op.magnitude)) for group in groups for op in group)
    starts = np.cumsum([0, *(len(group) for group in groups)]).tolist()
    layers = int(made.num_layers) if kind == "rand" else max(len(group) for group in groups)
    weights = made.choice_weights if kind == "rand" else None
    if not 1 <= layers <= min(MOST_LAYERS, len(ops)):
        raise ValueError(f"auto_augment is {text!r}; n, the operations of an image, is from 1 to {MOST_LAYERS}")
    first = groups[0][0]
    return Policy(
        ops,
        () if kind == "rand" else tuple(tuple(range(a, b)) for a, b in itertools.pairwise(starts)),
        layers,
        None if weights is None else tuple(float(weight) for weight in weights),
        float(first.magnitude_std),
        float(first.magnitude_max or 10),
    )
