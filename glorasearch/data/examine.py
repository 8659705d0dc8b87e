"""Looking at a stored image before work starts: is it whole, what does a pixel hold, what is its content hash."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from glorasearch.data.reading import Depth, Reading, content_digest, depth_of

Check = Literal["structure", "scale", "pixels"]
"""How far an image is examined: that it is an image and not cut; the values of pixels with more than 8 bits, too; and
that its pixels can be decoded, too."""
_UNREAD: Final = (None, None)


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found in an image."""

    fingerprint: bytes
    """SHA-256 of the content: a file's bytes, or the pixels where there is no file; and how it is read."""
    mark: str = ""
    """What is done to its pixels, such as `orientation 6`; usually nothing."""
    depth: Depth = "8 bits"
    smallest: float | None = None
    """Pixel value, if it has more than 8 bits and was looked at."""
    largest: float | None = None
    edge: int = 0
    """Pixels of the shorter edge."""


def examine_file(data: bytes, reading: Reading, check: Check) -> Examined:
    """Examine an encoded image; raises whatever the decoder raises if it is broken.

    A PNG's checksums are verified, a JPEG must have its end marker; what else is broken shows by decoding, which
    checksums do not replace: they are right where an encoder wrote nonsense.
    """
    with Image.open(io.BytesIO(data)) as image:
        kind, depth = image.format, depth_of(image)
        mark, edge = reading.mark(image, data), min(image.size)
        image.verify()
    if kind == "JPEG" and data.rfind(b"\xff\xd9") < 0:
        raise OSError("the JPEG is truncated: it has no end marker")
    fingerprint = content_digest(data, mark)
    wide = depth != "8 bits"
    if check == "structure" or not (wide or check == "pixels"):
        return Examined(fingerprint, mark, depth, edge=edge)
    with Image.open(io.BytesIO(data)) as image:
        if not wide:
            image.draft("L", (1, 1))  # a JPEG is read to its end, but computed at an eighth of its size
        image.load()
        return Examined(fingerprint, mark, depth, *(_range(image) if wide else _UNREAD), edge)


def examine_image(image: Image.Image, reading: Reading) -> Examined:
    """Examine an image that is decoded already."""
    depth, mark = depth_of(image), reading.mark(image)
    plain = pixel_digest(np.asarray(image))
    fingerprint = hashlib.sha256(plain + mark.encode()).digest() if mark else plain
    return Examined(fingerprint, mark, depth, *(_range(image) if depth != "8 bits" else _UNREAD), min(image.size))


def pixel_digest(pixels: npt.NDArray[Any]) -> bytes:
    """SHA-256 of an image's shape and values."""
    return hashlib.sha256(f"{pixels.shape}{pixels.dtype}".encode() + pixels.tobytes()).digest()


def _range(image: Image.Image) -> tuple[float | None, float | None]:
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise ValueError("it has pixels that are not finite numbers")
    return float(values.min()), float(values.max())
