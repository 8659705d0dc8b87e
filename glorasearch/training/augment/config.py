"""What augmentation there is: the keys of a recipe, their presets, and what the two make together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from glorasearch.config import Config, ListOf
from glorasearch.strict_toml import brief
from glorasearch.training.augment.policy import Policy, parse_policy

Preset = Literal["none", "light", "timm", "strong"]


def _check_jitter(value: Any) -> Any:
    parts = value if isinstance(value, list | tuple) else (value,)
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) and 0 <= one <= 10 for one in parts)
    if not numbers or (parts is value and len(parts) != 3):
        raise ValueError(
            f"expected a number from 0 to 10, or three, of brightness, contrast and saturation, found {brief(value)}"
        )
    return tuple(value) if isinstance(value, list) else value


Jitter = Annotated[float | tuple[float, float, float], BeforeValidator(_check_jitter)]
"""One number, or three."""
Erasing = Literal["const", "rand", "pixel"]
_NONE: Final[dict[str, Any]] = {
    "scale": (1.0, 1.0),
    "ratio": (1.0, 1.0),
    "hflip": 0.0,
    "vflip": 0.0,
    "color_jitter": 0.0,
    "auto_augment": "",
    "reprob": 0.0,
    "mixup": 0.0,
    "cutmix": 0.0,
}
_TIMM: Final = {"scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3), "hflip": 0.5, "color_jitter": 0.4}
PRESETS: Final[dict[Preset, dict[str, Any]]] = {
    "none": _NONE,
    "light": _NONE | {"scale": (0.8, 1.0), "ratio": (0.9, 1.1), "color_jitter": 0.1},
    "timm": _NONE | _TIMM,
    "strong": _NONE
    | _TIMM
    | {"auto_augment": "rand-m9-mstd0.5-inc1", "reprob": 0.25, "mixup": 0.8, "cutmix": 1.0, "color_jitter": 0.0},
}
"""`timm` is what timm's `train.py` does by default, `strong` the recipe of DeiT (Touvron et al. 2021)."""


@dataclass(frozen=True)
class Augmentation:
    """What is done to the images of a training; every key has its value."""

    scale: tuple[float, float]
    ratio: tuple[float, float]
    hflip: float
    vflip: float
    jitter: tuple[float, float, float]
    """Of brightness, contrast and saturation."""
    policy: Policy | None
    reprob: float
    remode: Erasing
    mixup: float
    cutmix: float

    @property
    def crops(self) -> bool:
        """Whether parts of the images are cut out, for which a larger view is of use."""
        return self.scale != (1.0, 1.0) or self.ratio != (1.0, 1.0)

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with others, so that targets are probabilities."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def changes(self) -> bool:
        """Whether it does anything at all."""
        single = self.hflip or self.vflip or any(self.jitter) or self.reprob
        return bool(self.crops or single or self.policy is not None or self.mixes)


class AugmentRecipe(Config):
    """The keys of a recipe that say how the images of a training are augmented; what is not given is the preset's."""

    augment: Preset = "none"
    """How training images are varied, in every training of a run. The keys after it change single parts: what is not
    given is as this one says. Images that are scored (search, race, test) are never varied."""
    scale: ListOf[float] | None = Field(default=None, min_length=2, max_length=2, examples=[[0.08, 1.0]])
    """Smallest and largest area of a random crop, as a share of the image, which is then resized to the input;
    [1, 1] for none."""
    ratio: ListOf[float] | None = Field(default=None, min_length=2, max_length=2, examples=[[0.75, 1.3333]])
    """Smallest and largest aspect ratio of a random crop, relative to that of the input."""
    hflip: float | None = Field(default=None, ge=0, le=1, examples=[0.5])
    """Probability of a horizontal flip. Leave it 0 where left and right make a difference, as in digits and text."""
    vflip: float | None = Field(default=None, ge=0, le=1, examples=[0.5])
    """Probability of a vertical flip."""
    color_jitter: Jitter | None = Field(default=None, examples=[0.4])
    """Random brightness, contrast and saturation: factors from 1 - c to 1 + c. One number for all three, or three."""
    auto_augment: str | None = Field(default=None, examples=["rand-m9-mstd0.5-inc1"])
    """RandAugment or AutoAugment in timm's words: `rand-m9-mstd0.5-inc1`, `original`, `v0`, `3a`, ...; empty for none.
    As in timm there is no colour jitter beside it, unless `color_jitter` is given."""
    reprob: float | None = Field(default=None, ge=0, le=1, examples=[0.25])
    """Probability of random erasing: one rectangle of 2 to 33 % of the area."""
    remode: Erasing = "pixel"
    """What random erasing leaves: the mean colour (`const`), a random colour (`rand`), noise (`pixel`)."""
    mixup: float | None = Field(default=None, ge=0, le=100, examples=[0.8])
    """Alpha of mixup, by which pairs of images and their labels are blended; 0 for none."""
    cutmix: float | None = Field(default=None, ge=0, le=100, examples=[1.0])
    """Alpha of CutMix, which pastes a rectangle of another image; with mixup, every image gets one of the two."""

    @model_validator(mode="after")
    def _check_augmentation(self) -> Self:
        for name, largest in (("scale", 1.0), ("ratio", 100.0)):
            given = getattr(self, name)
            if given is not None and not 0 < given[0] <= given[1] <= largest:
                raise ValueError(
                    f"{name} is {list(given)}; expected two numbers above 0 and up to {largest:g}, the smaller first"
                )
        if self.auto_augment:
            parse_policy(self.auto_augment)
        return self

    @property
    def augmentation(self) -> Augmentation:
        """The preset, and what single keys change in it."""
        preset = PRESETS[self.augment]
        found: dict[str, Any] = {
            name: value if (own := getattr(self, name)) is None else own for name, value in preset.items()
        }
        if self.color_jitter is None and found["auto_augment"]:
            found["color_jitter"] = 0.0
        jitter = found.pop("color_jitter")
        if isinstance(jitter, int | float):
            jitter = (jitter,) * 3
        policy = found.pop("auto_augment")
        return Augmentation(
            **found,
            jitter=jitter,
            policy=parse_policy(policy) if policy else None,
            remode=self.remode,
        )
