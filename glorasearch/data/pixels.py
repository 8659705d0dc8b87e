"""Decoded pixels of a split: kept as one tensor, or decoded on access."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from glorasearch.data.examine import Check, Examined
from glorasearch.data.input_spec import InputSpec
from glorasearch.data.problems import Problems
from glorasearch.data.reading import Reading
from glorasearch.data.records import Records
from glorasearch.errors import DataError

Result = TypeVar("Result")
Transform = Callable[[Image.Image], Tensor]
CHUNK = 32
"""Largest number of images that a thread takes at a time."""


class Pixels(ABC):
    """Images of one size, `(N, C, H, W)` uint8, in memory or not."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def gather(self, indices: Tensor) -> Tensor:
        """`(n, C, H, W)` uint8 on the CPU, a copy.

        Args:
            indices: `(n,)` int64 on the CPU, each from 0 and below N.

        Raises:
            DataError: if an image can no longer be read.
        """

    @property
    @abstractmethod
    def resident(self) -> bool:
        """Whether the pixels are in memory."""


class ResidentPixels(Pixels):
    """Pixels in memory."""

    def __init__(self, images: Tensor) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def gather(self, indices: Tensor) -> Tensor:
        """Copied from the tensor."""
        return self._images[indices]

    @property
    def resident(self) -> bool:
        """True."""
        return True


class LazyPixels(Pixels):
    """Pixels that are decoded in threads on every access."""

    def __init__(self, records: Records, spec: InputSpec, reading: Reading) -> None:
        self._records, self._reading = records, reading
        self._views = [(spec, image_transform(spec))]

    def __len__(self) -> int:
        return len(self._records)

    def gather(self, indices: Tensor) -> Tensor:
        """Decoded from the source."""
        return decode(self._records, self._views, self._reading, indices.tolist())[0]

    @property
    def resident(self) -> bool:
        """False."""
        return False


class ChosenPixels(Pixels):
    """Some of the pixels of a set, without a copy; `indices` is `(n,)`."""

    def __init__(self, base: Pixels, indices: Tensor) -> None:
        self._base, self._indices = base, indices

    def __len__(self) -> int:
        return len(self._indices)

    def gather(self, indices: Tensor) -> Tensor:
        """Gathered from the set."""
        return self._base.gather(self._indices[indices])

    @property
    def resident(self) -> bool:
        """Whether the set is in memory."""
        return self._base.resident


class JoinedPixels(Pixels):
    """Several pixel sets, one after the other, without a copy."""

    def __init__(self, parts: Sequence[Pixels]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def gather(self, indices: Tensor) -> Tensor:
        """Gathered from the parts."""
        out: Tensor | None = None
        for part, start in zip(self._parts, self._starts[:-1].tolist(), strict=True):
            here = ((indices >= start) & (indices < start + len(part))).nonzero()[:, 0]
            pixels = part.gather(indices[here] - start)
            if out is None:
                out = pixels.new_empty((len(indices), *pixels.shape[1:]))
            out[here] = pixels
        if out is None:
            raise ValueError("there are no parts to gather from")
        return out

    @property
    def resident(self) -> bool:
        """Whether all parts are in memory."""
        return all(part.resident for part in self._parts)


def image_transform(spec: InputSpec) -> Transform:
    """timm's evaluation transform up to the normalisation: resize and crop, as `(C, H, W)` uint8."""
    from timm.data.transforms_factory import create_transform  # imports torchvision, needed only to decode

    resize_and_crop: Transform = create_transform(
        input_size=(spec.channels, spec.height, spec.width),
        interpolation=spec.interpolation,
        mean=spec.mean,
        std=spec.std,
        crop_pct=spec.crop_pct,
        crop_mode=spec.crop_mode,
        normalize=False,
    )
    return resize_and_crop


def decode(
    records: Records,
    views: Sequence[tuple[InputSpec, Transform]],
    reading: Reading,
    indices: Sequence[int],
    advance: Callable[[int], None] | None = None,
) -> list[Tensor]:
    """Decode the images at `indices` into one tensor a view, `(len(indices), C, H, W)` uint8; each file once.

    Raises:
        DataError: naming the images that cannot be read.
    """
    with torch.inference_mode(False):  # a mode of this thread alone: others could not write into the tensor
        out = [
            torch.empty((len(indices), spec.channels, spec.height, spec.width), dtype=torch.uint8) for spec, _ in views
        ]

    def decode_one(position: int) -> str | None:
        index = indices[position]
        try:
            image = reading.convert(records.image(index), views[0][0].channels)
        except Exception as error:  # decoders raise all kinds of errors for broken bytes
            return unreadable(records.name(index), error)
        for tensor, (_, transform) in zip(out, views, strict=True):
            tensor[position].copy_(transform(image))
        return None

    problems = Problems("images cannot be decoded")
    for problem in parallel(decode_one, len(indices), advance):
        if problem is not None:
            problems.add(problem)
    problems.raise_if_any()
    return out


def examine_all(
    subject: str,
    records_of: Mapping[str, Records],
    reading: Reading,
    checks: Mapping[str, Check],
    advance: Callable[[int], None] | None = None,
) -> dict[str, list[Examined]]:
    """What is found in every image of the splits; every file is read.

    Args:
        subject: the data set, for messages.
        records_of: split → its images.
        reading: how they will be read.
        checks: split → how far its images are examined; `structure` if it is not there.
        advance: as for `parallel`.

    Raises:
        DataError: naming the images that are broken.
    """
    problems = Problems(subject)
    found: dict[str, list[Examined]] = {}
    for role, records in records_of.items():

        def examine(index: int, role: str = role, records: Records = records) -> Examined | str:
            try:
                return records.examine(index, reading, checks.get(role, "structure"))
            except Exception as error:  # decoders raise all kinds of errors for broken bytes
                return unreadable(records.name(index), error)

        results = parallel(examine, len(records), advance)
        for result in results:
            if isinstance(result, str):
                problems.add(result)
        found[role] = [result for result in results if isinstance(result, Examined)]
    problems.raise_if_any()
    return found


def unreadable(name: str, error: Exception) -> str:
    """The message for an image that cannot be read."""
    if isinstance(error, FileNotFoundError):
        return f"{name}: does not exist"
    if isinstance(error, DataError):
        return f"{name}: {error}"
    reason = "no format of images begins like it" if isinstance(error, UnidentifiedImageError) else error
    return f"{name}: cannot be read as an image: {reason or type(error).__name__}; replace the file or remove it"


def parallel(
    function: Callable[[int], Result], count: int, advance: Callable[[int], None] | None = None
) -> list[Result]:
    """The results of `function(0) ... function(count - 1)`, computed in threads, in order.

    Args:
        function: is called from several threads at once.
        count: number of calls.
        advance: called in this thread with the number of calls that ended since its last call.
    """
    threads = min(16, os.cpu_count() or 1)
    size = max(1, min(CHUNK, -(-count // threads)))
    starts = range(0, count, size)
    if threads == 1 or len(starts) <= 1:
        results = [function(index) for index in range(count)]
        if advance is not None:
            advance(count)
        return results

    def work(start: int) -> list[Result]:
        return [function(index) for index in range(start, min(start + size, count))]

    gathered: list[Result] = []
    with ThreadPoolExecutor(threads, thread_name_prefix="glorasearch-decode") as pool:
        for chunk in pool.map(work, starts):
            gathered.extend(chunk)
            if advance is not None:
                advance(len(chunk))
    return gathered
