"""Images that are not decoded yet: their location, label and content hash."""

from __future__ import annotations

import io
import os
import stat
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from glorasearch.data.examine import Check, Examined, examine_file, examine_image, pixel_digest
from glorasearch.data.names import of_kernel, shown
from glorasearch.data.reading import Reading
from glorasearch.data.splitter import IntArray
from glorasearch.errors import DataError

Targets = npt.NDArray[Any]


class Records(ABC):
    """A list of labelled images. Methods may be called from several threads.

    Attributes:
        labels: targets of the task: class indices `(N,)` int64, `(N, labels)` float32, or numbers `(N, targets)`
            float64 in their own units.
    """

    def __init__(self, labels: Sequence[int] | Targets) -> None:
        given = np.asarray(labels)
        real = np.float64 if given.dtype == np.float64 else np.float32
        self.labels: Targets = given.astype(real) if given.ndim == 2 else given.astype(np.int64).reshape(-1)

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def name(self, index: int) -> str:
        """Where the image is, for messages: a file, and the line of a list that names it."""

    def file(self, index: int) -> str:
        """The image's file, or its place in the data set where it has none of its own."""
        return self.name(index)

    @abstractmethod
    def image(self, index: int) -> Image.Image:
        """The image, decoded at its native size. Raises whatever the decoder raises."""

    @abstractmethod
    def examine(self, index: int, reading: Reading, check: Check = "structure") -> Examined:
        """The content hash and the kind of an image; raises an error for a broken one, as far as `check` finds it."""

    def take(self, indices: IntArray) -> Records:
        """The records at `indices`, in that order."""
        return SubsetRecords(self, indices)


class SubsetRecords(Records):
    """A subset of another list of records."""

    def __init__(self, base: Records, indices: IntArray) -> None:
        super().__init__(base.labels[indices])
        self._base, self._indices = base, indices

    def name(self, index: int) -> str:
        """As in the underlying list."""
        return self._base.name(int(self._indices[index]))

    def file(self, index: int) -> str:
        """As in the underlying list."""
        return self._base.file(int(self._indices[index]))

    def image(self, index: int) -> Image.Image:
        """As in the underlying list."""
        return self._base.image(int(self._indices[index]))

    def examine(self, index: int, reading: Reading, check: Check = "structure") -> Examined:
        """As in the underlying list."""
        return self._base.examine(int(self._indices[index]), reading, check)


class EncodedRecords(Records):
    """Images stored as encoded bytes."""

    @abstractmethod
    def read(self, index: int) -> bytes:
        """The encoded image."""

    def image(self, index: int) -> Image.Image:
        """The decoded image."""
        with Image.open(io.BytesIO(self.read(index))) as image:
            image.load()
            return image

    def examine(self, index: int, reading: Reading, check: Check = "structure") -> Examined:
        """By its bytes."""
        return examine_file(self.read(index), reading, check)


class FileRecords(EncodedRecords):
    """Image files.

    Args:
        paths: of the files.
        labels: `(N,)`, or `(N, labels)`.
        origins: where each file is listed, such as `train800.txt:17`, for messages.
    """

    def __init__(
        self, paths: Sequence[Path], labels: Sequence[int] | Targets, origins: Sequence[str] | None = None
    ) -> None:
        super().__init__(labels)
        self.paths, self._origins = paths, origins

    def name(self, index: int) -> str:
        """`<list>:<line>: <path>`, or the path."""
        path = self.file(index)
        return path if self._origins is None else f"{self._origins[index]}: {path}"

    def file(self, index: int) -> str:
        """The path."""
        return shown(self.paths[index])

    def read(self, index: int) -> bytes:
        """The file's bytes.

        Raises:
            DataError: if it is a pipe, a device or one of the kernel's, whose reading may never end.
        """
        path = self.paths[index]
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError("is not a regular file but a folder, pipe, socket or device")
        if not status.st_size and of_kernel(os.path.realpath(path)):
            raise DataError("leads to a file that the kernel makes up")
        return path.read_bytes()


class BytesRecords(EncodedRecords):
    """Encoded images in memory."""

    def __init__(self, contents: Sequence[bytes], labels: Sequence[int], subject: str) -> None:
        super().__init__(labels)
        self._contents, self._subject = contents, subject

    def name(self, index: int) -> str:
        """The data set and the index in it."""
        return f"{self._subject}, image {index}"

    def read(self, index: int) -> bytes:
        """The stored bytes."""
        return self._contents[index]


class ReaderRecords(EncodedRecords):
    """Images from a timm reader, which gives `(open file, target)` for each index.

    The reader is used, not timm's `ImageDataset`, because that replaces a broken image by another one.
    """

    def __init__(self, reader: Any, labels: Sequence[int], subject: str) -> None:
        super().__init__(labels)
        self._reader, self._subject = reader, subject
        self._lock = threading.Lock()  # all threads share the position in a tar file

    def name(self, index: int) -> str:
        """The data set, the index, and the file's name in it."""
        return f"{self._subject}, image {index} ({shown(self._reader.filename(index))})"

    def read(self, index: int) -> bytes:
        """The content of the reader's file."""
        with self._lock, self._reader[index][0] as file:
            content: bytes = file.read()
        return content


class ArrayRecords(Records):
    """Images in an array.

    Args:
        pixels: `(N, H, W)` or `(N, H, W, 3)`, uint8.
        labels: `(N,)`, or `(N, labels)`.
        subject: the data set, for messages.
    """

    def __init__(self, pixels: npt.NDArray[np.uint8], labels: Sequence[int] | Targets, subject: str) -> None:
        super().__init__(labels)
        self._pixels, self._subject = pixels, subject

    def name(self, index: int) -> str:
        """The data set and the index in it."""
        return f"{self._subject}, image {index}"

    def image(self, index: int) -> Image.Image:
        """The pixels as an image."""
        return Image.fromarray(self._pixels[index])

    def examine(self, index: int, reading: Reading, check: Check = "structure") -> Examined:
        """By shape and pixels."""
        pixels = self._pixels[index]
        return Examined(pixel_digest(pixels), edge=min(pixels.shape[:2]))


class DatasetRecords(Records):
    """Any data set with `[index] -> (PIL image, target)`; hashing an image decodes it."""

    def __init__(self, dataset: Any, labels: Sequence[int], subject: str) -> None:
        super().__init__(labels)
        self._dataset, self._subject = dataset, subject

    def name(self, index: int) -> str:
        """The data set and the index in it."""
        return f"{self._subject}, image {index}"

    def image(self, index: int) -> Image.Image:
        """The data set's image."""
        image: Image.Image = self._dataset[index][0]
        return image

    def examine(self, index: int, reading: Reading, check: Check = "structure") -> Examined:
        """By shape and pixels."""
        return examine_image(self.image(index), reading)
