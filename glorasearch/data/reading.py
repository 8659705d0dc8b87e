"""How stored pixels become those that a model sees: turned upright, and brought to 8 bits on one scale."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from glorasearch.data.config import DataConfig

Depth = Literal["8 bits", "16 bits", "16 bits a colour", "32 bits", "floating point"]
"""What one pixel of a file holds."""
FULL_SCALE = (0.0, 65535.0)
"""Black and white of 16 bits, unless `data.pixel_range` says otherwise."""
_WIDE: tuple[Depth, ...] = ("16 bits", "32 bits", "floating point")
_LARGEST_STEP = 2**48
"""Up to this, 256 steps between whole numbers are computed with 64 bits."""
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation → what turns the image upright."""
_MAY_HOLD_ORIENTATION = (b"eXIf", b"Raw profile type exif", b"tiff:Orientation")


@dataclass(frozen=True)
class Reading:
    """How stored pixels become those that a model sees."""

    exif: bool = True
    """Turn images upright as their EXIF says."""
    pixel_range: tuple[float, float] | None = None
    """The values that are black and white where a pixel has more than 8 bits."""

    @classmethod
    def of(cls, config: DataConfig) -> Reading:
        """As a configuration says."""
        low_high = config.pixel_range
        return cls(config.exif, None if low_high is None else (low_high[0], low_high[1]))

    def convert(self, image: Image.Image, channels: int) -> Image.Image:
        """A decoded image upright, in grayscale or RGB, 8 bits.

        Raises:
            ValueError: if the scale of its pixels is unknown, or a pixel is not a finite number.
        """
        depth = depth_of(image)
        image.load()
        if self.exif:
            image = upright(image)
        if depth in _WIDE:
            image = self._to_8_bits(image, depth)
        return image.convert(_mode(channels))

    def conversion(self, image: Image.Image, channels: int) -> str:
        """What `convert` does to a decoded image, in words such as `P to RGB`; empty if it changes nothing."""
        depth, wanted = depth_of(image), _mode(channels)
        done = ["turned upright"] if self.exif and _orientation(image) in _TURNS else []
        if depth in _WIDE:
            low, high = self.pixel_range or FULL_SCALE
            done.append(f"{depth} to 8 bits, {low:g} black and {high:g} white")
        if image.mode != wanted and not (depth in _WIDE and wanted == "L"):
            done.append(f"{'L' if depth in _WIDE else image.mode} to {wanted}")
        return ", ".join(done)

    def mark(self, image: Image.Image, data: bytes | None = None) -> str:
        """What this reading does to an image's pixels beyond what its content says; usually nothing.

        Args:
            image: opened, decoded or not.
            data: its file.
        """
        marks = []
        if self.exif and image.format != "TIFF":  # Pillow turns a TIFF itself
            orientation = _orientation(image, data)
            if orientation in _TURNS:
                marks.append(f"orientation {orientation}")
        depth = depth_of(image)
        usual = depth == "16 bits" and self.pixel_range == FULL_SCALE
        if depth in _WIDE and self.pixel_range is not None and not usual:
            marks.append(f"pixel range {self.pixel_range}")
        return ", ".join(marks)

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return {"exif": self.exif, "pixel_range": None if self.pixel_range is None else list(self.pixel_range)}

    def _to_8_bits(self, image: Image.Image, depth: Depth) -> Image.Image:
        limits = FULL_SCALE if self.pixel_range is None and depth == "16 bits" else self.pixel_range
        if limits is None:
            raise ValueError(f"its pixels are {depth}, whose scale no file says; set data.pixel_range = [black, white]")
        values = np.asarray(image)
        low, high = limits
        whole = low == int(low) and high == int(high) and max(abs(low), abs(high)) <= _LARGEST_STEP
        if whole and depth != "floating point":
            steps = (np.clip(values.astype(np.int64), int(low), int(high)) - int(low)) * 256 // int(high - low + 1)
            return Image.fromarray(steps.astype(np.uint8))
        if not np.isfinite(values).all():
            raise ValueError("it has pixels that are not finite numbers")
        share = (np.clip(values.astype(np.float64), low, high) - low) / (high - low)
        return Image.fromarray(np.floor(share * 255 + 0.5).astype(np.uint8))


def _mode(channels: int) -> str:
    """Pillow's name of the images that a model of so many channels takes."""
    return "L" if channels == 1 else "RGB"


def depth_of(image: Image.Image) -> Depth:
    """What one pixel of an image holds; of colours with 16 bits Pillow gives 8, which shows before decoding only."""
    if image.mode == "F":
        return "floating point"
    if image.mode.startswith("I;16"):
        return "16 bits"
    if image.mode == "I":
        return "16 bits" if image.format in ("PNG", "PPM") else "32 bits"
    tiles = getattr(image, "tile", None) or ()
    return "16 bits a colour" if any(";16" in str(tile[3]) for tile in tiles) else "8 bits"


def upright(image: Image.Image) -> Image.Image:
    """A decoded image turned as its EXIF says; as it is if that says nothing or is broken."""
    method = _TURNS.get(_orientation(image))
    return image if method is None else image.transpose(method)


def content_digest(data: bytes, mark: str) -> bytes:
    """SHA-256 of a file's bytes, and of what is done to its pixels if that is not nothing."""
    plain = hashlib.sha256(data).digest()
    return hashlib.sha256(plain + mark.encode()).digest() if mark else plain


def _orientation(image: Image.Image, data: bytes | None = None) -> int:
    """1 if there is none, or it is broken."""
    if data is not None and image.format == "PNG" and not any(chunk in data for chunk in _MAY_HOLD_ORIENTATION):
        return 1  # a PNG may have it behind the pixels, which Pillow decodes then
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # whatever a camera wrote
        return 1
