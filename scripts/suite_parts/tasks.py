"""The tasks of the suite, own or from a file, and one archive for each task and seed, which the product reads."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from glorasearch.errors import did_you_mean
from suite_parts import scenes
from suite_parts.scenes import EDGE, Task

IMAGES = 3_200
"""Of a task that is drawn."""
NAME = re.compile(r"[^\W_][\w .+-]*")
"""Of a task: files and options are named by it."""
FIRST_SEED = 1_000
"""Added to a seed of the suite for the permutation of its images."""
CLASSES = "expected the number of the class of each image, two classes or more, most of them with several images"


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Images of each split."""

    train: int = 800
    search: int = 200
    test: int | None = None
    """None: all others."""


def digits() -> Task:
    """scikit-learn's handwritten digits, enlarged."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = [
        Image.fromarray((image * 15.9).astype(np.uint8)).resize((EDGE, EDGE), Image.Resampling.BILINEAR).convert("RGB")
        for image in found.images
    ]
    return np.stack([np.asarray(image, dtype=np.uint8) for image in images]), found.target.astype(np.int64)


OWN: Mapping[str, Callable[[], Task | None]] = {
    "digits": digits,
    "font": lambda: scenes.font(IMAGES),
    "count": lambda: scenes.count(IMAGES),
    "orientation": lambda: scenes.orientation(IMAGES),
}
"""The tasks that need nothing but installed packages; `font` needs matplotlib's fonts."""


class Tasks:
    """Images and labels by the name of the task, from a file or made here."""

    def __init__(self, file: Path | None, cache: Path) -> None:
        """`file` holds `<task>_x (n, H, W, 3)` uint8 and `<task>_y (n,)`; own tasks are kept in `cache` once made.

        Raises:
            ValueError: if the file has no task.
        """
        self._file = file or _made(cache)
        with _opened(self._file) as arrays:
            self.names = [name.removesuffix("_x") for name in arrays if name.endswith("_x")]
            lacking = [f"{name}_y" for name in self.names if f"{name}_y" not in arrays]
        if not self.names or lacking:
            raise ValueError(
                f"{self._file}: expected <task>_x (n, H, W, 3) uint8 and <task>_y (n,) for every task; "
                + (f"missing: {', '.join(lacking)}" if lacking else "there is none")
            )
        odd = [name for name in self.names if not NAME.fullmatch(name)]
        if odd:
            raise ValueError(
                f"{self._file}: {odd[0]!r} is no name of a task; expected a letter or digit, and then letters, digits, "
                "spaces or any of _ . + -"
            )

    def read(self, name: str) -> Task:
        """Images and labels of a task; its classes are the different labels, numbered in their order.

        Raises:
            ValueError: if its arrays are of another kind.
        """
        with _opened(self._file) as arrays:
            images, labels = arrays[f"{name}_x"], arrays[f"{name}_y"]
        colours = images.shape[3:] in ((), (1,), (3,))
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or not colours or labels.size != len(images):
            raise ValueError(
                f"{self._file}: {name}_x is {images.dtype} {images.shape} and {name}_y {labels.dtype} {labels.shape}; "
                "expected uint8 (n, H, W, 3), or (n, H, W) if they are grey, of 0 to 255, and integers (n,)"
            )
        kind = labels.dtype.kind
        if kind not in "iubf" or (kind == "f" and (labels != np.floor(labels)).any()):
            raise ValueError(f"{self._file}: {name}_y is {labels.dtype}, not all of them whole numbers; " + CLASSES)
        classes, numbers = np.unique(labels, return_inverse=True)
        if len(classes) < 2 or 2 * len(classes) > len(images):
            raise ValueError(f"{self._file}: {name}_y has {len(classes)} classes in {len(images)} images; " + CLASSES)
        return images, numbers.astype(np.int64).reshape(-1)

    def check_size(self, name: str, sizes: Sizes) -> None:
        """See that a task has enough images.

        Raises:
            ValueError: if it has not.
        """
        count, needed = len(self.read(name)[0]), sizes.train + sizes.search + 1
        if count < needed:
            raise ValueError(
                f"task {name!r} has {count} images; the suite needs at least {needed}: {sizes.train} to train on, "
                f"{sizes.search} to search by, and the rest to test on; leave it out by --only"
            )

    def digest(self, name: str) -> str:
        """SHA-256 of images and labels."""
        images, labels = self.read(name)
        content = hashlib.sha256(f"{images.shape} {images.dtype}".encode())
        content.update(np.ascontiguousarray(images).tobytes())
        content.update(labels.tobytes())
        return content.hexdigest()

    def write(self, name: str, seed: int, sizes: Sizes, folder: Path) -> str:
        """Write the archive of a task and a seed unless it is there; returns it as a data source.

        The images are permuted by `RandomState(1000 + seed)`: first train, then search, then test.

        Raises:
            ValueError: if the task has too few images.
        """
        path = folder / f"{name}-{seed}.npz"
        if not path.exists():
            self.check_size(name, sizes)
            images, labels = self.read(name)
            order = np.random.RandomState(FIRST_SEED + seed).permutation(len(images))
            train, search, test = np.split(order, [sizes.train, sizes.train + sizes.search])
            folder.mkdir(parents=True, exist_ok=True)
            positions = {"train": train, "search": search, "test": test[: sizes.test]}
            _write(path, {"x": images, "y": labels, **positions})
        return f"npz:{path}"


@contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, npt.NDArray[Any]]]:
    """The arrays of an archive.

    Raises:
        ValueError: if the file is none; without NumPy's advice to load Python objects.
    """
    try:
        arrays: Any = np.load(path)
        if not isinstance(arrays, Mapping):
            raise ValueError("it is a single array")
        with arrays:  # type: ignore[attr-defined]
            yield arrays
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        reason = "it is another kind of file, or holds Python objects" if "pickle" in reason else reason
        raise ValueError(f"{path} cannot be read as a NumPy archive: {reason}") from error


def _made(cache: Path) -> Path:
    """The file of the own tasks, made on the first call."""
    path = cache / "own-tasks.npz"
    if not path.exists():
        made = {name: make_one() for name, make_one in OWN.items()}
        absent = [name for name, task in made.items() if task is None]
        if absent:
            print(f"left out: {', '.join(absent)} (no fonts: pip install matplotlib)", flush=True)
        arrays: dict[str, npt.NDArray[Any]] = {}
        for name, task in made.items():
            if task is not None:
                arrays |= {f"{name}_x": task[0], f"{name}_y": task[1]}
        cache.mkdir(parents=True, exist_ok=True)
        _write(path, arrays)
    return path


def _write(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    partial = path.with_name(f"{path.stem}.{os.getpid()}.npz")
    np.savez_compressed(partial, **arrays)  # type: ignore[arg-type]
    partial.replace(path)


def chosen(tasks: Tasks, wanted: Sequence[str] | None) -> list[str]:
    """The names of the tasks to run.

    Raises:
        ValueError: if there is no such task.
    """
    for name in wanted or ():
        if name not in tasks.names:
            near = did_you_mean(name, tasks.names)
            raise ValueError(f"--only: no task {name!r}{near}; there are {', '.join(tasks.names)}")
    return list(wanted) if wanted else tasks.names
