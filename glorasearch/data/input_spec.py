"""The input of a backbone: image size, channels, normalisation, and how images are resized."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from torch import nn

from glorasearch.data.config import MOST_PIXELS
from glorasearch.errors import DataError

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
CROP_MODES = ("center", "squash", "border")


@dataclass(frozen=True)
class InputSpec:
    """The input of a backbone.

    Raises:
        DataError: (on creation) if a value cannot be used.
    """

    channels: int
    """1 (grayscale) or 3 (RGB), to which images are converted."""
    height: int
    """Pixels."""
    width: int
    """Pixels."""
    mean: tuple[float, ...]
    """Subtracted from each channel, on the scale 0 to 1."""
    std: tuple[float, ...]
    """Divides each channel, on the scale 0 to 1."""
    interpolation: str = "bicubic"
    """One of `INTERPOLATIONS`."""
    crop_pct: float = 1.0
    """Fraction of the resized image's edge that the centre crop keeps, as in timm; above 1 the image is padded."""
    crop_mode: str = "center"
    """One of `CROP_MODES`: how timm treats an image of another aspect ratio."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        if self.channels not in (1, 3):
            raise DataError(
                f"input: {self.channels} channels; images are given as 1 (grayscale) or 3 (RGB): set in_chans = 1 or "
                "in_chans = 3 in backbone.args; pretrained weights of the first convolution are adapted"
            )
        if self.height < 1 or self.width < 1:
            raise DataError(f"input: size {self.height} x {self.width}; both must be at least 1 pixel")
        if max(self.height, self.width) > MOST_PIXELS:
            raise DataError(
                f"input: size {self.height:,} x {self.width:,}; at most {MOST_PIXELS:,} pixels on an edge are allowed: "
                "set data.size, or img_size in backbone.args"
            )
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels or not all(math.isfinite(value) for value in values):
                raise DataError(
                    f"input: {name} is {values}; it takes one finite number for each of {self.channels} channels"
                )
        if any(value <= 0 for value in self.std):
            raise DataError(f"input: std is {self.std}; it divides, so each value must be above 0")
        if self.interpolation not in INTERPOLATIONS:
            raise DataError(f"input: interpolation {self.interpolation!r}; allowed are {', '.join(INTERPOLATIONS)}")
        if not 0 < self.crop_pct < math.inf:
            raise DataError(f"input: crop_pct is {self.crop_pct}; allowed is any number above 0")
        if self.crop_mode not in CROP_MODES:
            raise DataError(f"input: crop_mode {self.crop_mode!r}; allowed are {', '.join(CROP_MODES)}")

    @classmethod
    def from_backbone(cls, model: nn.Module) -> Self:
        """The input of a timm model, from its `pretrained_cfg` and from the model as it was built.

        The arguments `img_size` and `in_chans` take precedence over the `pretrained_cfg`. If the channels differ, mean
        and std are averaged over the channels, or repeated.
        """
        from timm.data.config import resolve_model_data_config  # timm takes a second to import

        from glorasearch.adapters.own_input import own_shape

        resolve: Callable[..., dict[str, Any]] = resolve_model_data_config
        config = resolve(model)
        channels, height, width = own_shape(model)
        values: dict[str, Any] = {
            "channels": channels,
            "height": height,
            "width": width,
            "mean": fit_channels(config["mean"], channels),
            "std": fit_channels(config["std"], channels),
            "interpolation": config["interpolation"],
            "crop_pct": config["crop_pct"],
            "crop_mode": config["crop_mode"],
        }
        return cls(**values)

    @property
    def image_bytes(self) -> int:
        """Bytes of one image as uint8 at this size."""
        return self.channels * self.height * self.width

    def override(
        self,
        *,
        size: int | tuple[int, int] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> Self:
        """A copy with the given values; a single number for mean or std is used for every channel."""
        height, width = (self.height, self.width) if size is None else (size, size) if isinstance(size, int) else size
        return replace(
            self,
            height=height,
            width=width,
            mean=self.mean if mean is None else _spread(mean, self.channels),
            std=self.std if std is None else _spread(std, self.channels),
        )

    def preprocessing(self) -> dict[str, Any]:
        """How an image becomes an input, in the words of timm's `pretrained_cfg`."""
        names = ("mean", "std", "interpolation", "crop_pct", "crop_mode")
        return {name: getattr(self, name) for name in names}

    def describe(self) -> dict[str, Any]:
        """The fields as JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def fit_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Per-channel values for a number of channels: unchanged if it is theirs, else their mean for each."""
    if len(values) == channels:
        return tuple(values)
    return (sum(values) / len(values),) * channels


def _spread(values: Sequence[float], channels: int) -> tuple[float, ...]:
    return tuple(values) * channels if len(values) == 1 else tuple(values)
