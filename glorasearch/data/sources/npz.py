"""Arrays of images in a NumPy archive: one list with or without positions of its splits, or an array for each split."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from glorasearch.bounded import user_path
from glorasearch.data.config import NPZ, split_location
from glorasearch.data.records import ArrayRecords
from glorasearch.data.sources.source_splits import SourceSplits
from glorasearch.data.splitter import IntArray
from glorasearch.errors import DataError
from glorasearch.tasks.kinds import TaskKind, unclear, words_of

POSITIONS = ("train", "search", "test")
"""Arrays of positions in the one list, all or none."""
SPLIT_ARRAYS = {
    "train": (("x_train", "y_train"), ("train_images", "train_labels")),
    "search": (
        ("x_search", "y_search"),
        ("x_val", "y_val"),
        ("val_images", "val_labels"),
        ("search_images", "search_labels"),
    ),
    "test": (("x_test", "y_test"), ("test_images", "test_labels")),
}
"""Split → the pairs of arrays that may hold it, as Keras and MedMNIST name them."""
FORMS = (
    "'x' and 'y' (with positions 'train', 'search', 'test' where the splits are fixed), or 'x_train', 'y_train' and "
    "likewise for 'search' (or 'val') and 'test', each with the task's name and an underscore before it if there is one"
)


def read_npz(location: str, task: TaskKind = "classify") -> SourceSplits:
    """The images of one task.

    Args:
        location: `<path>.npz`, or `<path>.npz#<task>`, where the name of each array begins with `<task>_`.
        task: what is asked of the images.

    Images are `(n, H, W)`, `(n, H, W, 1)` or `(n, H, W, 3)` uint8, labels `(n,)` or `(n, 1)` integers from 0, or with
    several labels an image `(n, labels)` of 0 and 1, or with numbers `(n, targets)` or `(n,)`. Images are resized to
    the backbone's input as a whole and not cropped. An array of texts called `classes` names the classes, labels or
    targets.

    Raises:
        DataError: if the file or an array is missing or has another form, or a position is out of range or twice there.
    """
    path, part = split_location(location)
    archive = _Archive(user_path(path), f"{part}_" if part else "", f"{NPZ}{location}", task)
    if archive.has("x"):
        return _one_list(archive)
    records: dict[str, ArrayRecords] = {}
    origins: dict[str, str] = {}
    for role, pairs in SPLIT_ARRAYS.items():
        pair = next((pair for pair in pairs if archive.has(pair[0])), None)
        if pair is not None:
            records[role], origins[role] = archive.records(*pair), archive.origin(pair[0])
    if "train" not in records:
        raise archive.error(f"has no images to train on; expected {FORMS}; its arrays are {archive.listed()}")
    return SourceSplits(
        archive.subject,
        records["train"],
        _class_names(archive, list(records.values())),
        task,
        search=records.get("search"),
        test=records.get("test"),
        origins=origins,
        whole_image=True,
    )


def _one_list(archive: _Archive) -> SourceSplits:
    everything = archive.records("x", "y")
    names = _class_names(archive, [everything])
    present = [role for role in POSITIONS if archive.has(role)]
    if not present:
        origins = {"train": archive.origin("x")}
        return SourceSplits(archive.subject, everything, names, archive.task, origins=origins, whole_image=True)
    if len(present) < len(POSITIONS):
        lacking = ", ".join(role for role in POSITIONS if role not in present)
        raise archive.error(f"has positions of {', '.join(present)}, but not of {lacking}; give all three or none")
    positions = {role: archive.positions(role, len(everything)) for role in POSITIONS}
    return SourceSplits(
        archive.subject,
        everything.take(positions["train"]),
        names,
        archive.task,
        search=everything.take(positions["search"]),
        test=everything.take(positions["test"]),
        fixed=True,
        origins={role: archive.origin(role) for role in POSITIONS},
        whole_image=True,
    )


def _class_names(archive: _Archive, lists: list[ArrayRecords]) -> tuple[str, ...]:
    outputs = words_of(archive.task).outputs
    if archive.has("classes"):
        names = tuple(str(name) for name in archive.array("classes").tolist())
        columns = {records.labels.shape[1] for records in lists if records.labels.ndim == 2}
        if columns - {len(names)}:
            raise archive.error(f"{len(names)} names in 'classes' are not those of {min(columns)} columns of {outputs}")
        if fault := unclear(archive.task, names):
            raise archive.error(fault)
        return names
    if archive.task != "classify":
        widths = sorted({records.labels.shape[1] for records in lists})
        if len(widths) > 1:
            raise archive.error(f"its splits have {widths[0]} and {widths[-1]} columns of {outputs}")
        return tuple(map(str, range(widths[0])))
    largest = max((int(records.labels.max()) for records in lists if len(records)), default=-1)
    images = sum(map(len, lists))
    if largest >= images:
        raise archive.error(
            f"label {largest} is out of range: {images} images have {images} classes at most, from 0 on"
        )
    return tuple(str(label) for label in range(largest + 1))


def _reason(error: Exception) -> str:
    """What NumPy says, but for its advice to load Python objects, which run whatever their file wants."""
    text = str(error)
    return "it is another kind of file, or holds Python objects" if "allow_pickle" in text else text


class _Archive:
    """The arrays of one task in an open archive; each is read when it is asked for."""

    def __init__(self, path: Path, prefix: str, subject: str, task: TaskKind) -> None:
        self.subject, self.task = subject, task
        self._path, self._prefix = path, prefix
        if not path.is_file():
            raise self.error(f"{path} is not a file")
        try:
            opened: Any = np.load(path)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise self.error(f"{path} cannot be read as a NumPy archive: {_reason(error)}") from error
        if not isinstance(opened, Mapping):
            raise self.error(f"{path} is a single array; expected an archive, as numpy.savez writes it")
        self._arrays: Mapping[str, npt.NDArray[Any]] = opened

    def error(self, problem: str) -> DataError:
        return DataError(f"{self.subject}: {problem}")

    def listed(self) -> str:
        names = list(self._arrays)
        return ", ".join(map(repr, names[:20])) + (" ..." if len(names) > 20 else "") if names else "none"

    def origin(self, name: str) -> str:
        return f"{self._path.name}, {self._prefix}{name}"

    def has(self, name: str) -> bool:
        return self._prefix + name in self._arrays

    def array(self, name: str) -> npt.NDArray[Any]:
        if not self.has(name):
            raise self.error(f"has no array {self._prefix + name!r}; expected {FORMS}; its arrays are {self.listed()}")
        try:
            self._check_extent(self._prefix + name)
            return self._arrays[self._prefix + name]
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise self.error(f"{self._path}: array {self._prefix + name!r} cannot be read: {_reason(error)}") from error

    def _check_extent(self, name: str) -> None:
        """Refuse an array that has not what its header says, or more than memory, before room is made for it.

        Raises:
            DataError: if memory does not hold it.
            ValueError: if it is not what its header says.
        """
        with zipfile.ZipFile(self._path) as file:
            member = name if name in file.namelist() else f"{name}.npy"
            there = file.getinfo(member).file_size
            with file.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(stream)
                there -= stream.tell()
        if not dtype.hasobject and math.prod(shape) * dtype.itemsize != there:
            raise ValueError(f"its header says {dtype} {shape}, which are not the {there:,} bytes that it has")
        if there > (most := os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")):
            raise self.error(
                f"array {name!r} takes {there / 2**30:.1f} GiB, the memory of this machine is {most / 2**30:.1f} GiB; "
                "take images from a folder, which are read as they are needed"
            )

    def records(self, images: str, labels: str) -> ArrayRecords:
        classes = self.array(labels)  # first, since they are small
        pixels = self.array(images)
        shape = pixels.shape[:3] if pixels.ndim == 4 and pixels.shape[3] == 1 else pixels.shape
        if pixels.dtype != np.uint8 or not (len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)):
            raise self.error(
                f"{self._prefix}{images} is {pixels.dtype} {pixels.shape}; expected uint8 (n, H, W) or (n, H, W, 3)"
            )
        if self.task != "classify":
            matrix = self._numbers if self.task == "regress" else self._matrix
            return ArrayRecords(pixels.reshape(shape), matrix(labels, classes, len(pixels)), self._place(images))
        flat = classes.reshape(-1)
        if not np.issubdtype(classes.dtype, np.integer) or len(flat) != len(pixels) or len(classes) != len(pixels):
            raise self.error(
                f"{self._prefix}{labels} is {classes.dtype} {classes.shape}; expected one integer for each of "
                f'{len(pixels)} images; a matrix of 0 and 1 needs data.task = "multilabel", and numbers "regress"'
            )
        return ArrayRecords(pixels.reshape(shape), flat.astype(np.int64), self._place(images))

    def _place(self, images: str) -> str:
        return f"{self.subject}, {self._prefix}{images}"

    def _matrix(self, name: str, labels: npt.NDArray[Any], images: int) -> npt.NDArray[np.float32]:
        """The labels of images with several."""
        numeric = np.issubdtype(labels.dtype, np.number) or labels.dtype == np.bool_
        if labels.ndim != 2 or len(labels) != images or not labels.shape[1] or not numeric:
            raise self.error(
                f"{self._prefix}{name} is {labels.dtype} {labels.shape}; expected ({images}, labels) of 0 and 1, since "
                f"data.task is {self.task!r}"
            )
        wrong = np.argwhere((labels != 0) & (labels != 1))
        if len(wrong):
            row, column = wrong[0].tolist()
            raise self.error(f"{self._prefix}{name}[{row}, {column}] is {labels[row, column]}; expected 0 or 1")
        return labels.astype(np.float32)

    def _numbers(self, name: str, targets: npt.NDArray[Any], images: int) -> npt.NDArray[np.float64]:
        """The targets of images with numbers, a column each."""
        found = targets[:, None] if targets.ndim == 1 else targets
        real = np.issubdtype(targets.dtype, np.floating) or np.issubdtype(targets.dtype, np.integer)
        if found.ndim != 2 or len(found) != images or not found.shape[1] or not real:
            raise self.error(
                f"{self._prefix}{name} is {targets.dtype} {targets.shape}; expected ({images}, targets) of numbers, "
                f"since data.task is {self.task!r}"
            )
        wrong = np.argwhere(~np.isfinite(found))
        if len(wrong):
            row, column = wrong[0].tolist()
            raise self.error(f"{self._prefix}{name}[{row}, {column}] is {found[row, column]}; expected a number")
        return found.astype(np.float64)

    def positions(self, role: str, images: int) -> IntArray:
        found = self.array(role)
        if not np.issubdtype(found.dtype, np.integer) or found.ndim != 1:
            raise self.error(f"{self._prefix}{role} is {found.dtype} {found.shape}; expected a list of positions")
        positions: IntArray = found.astype(np.int64)
        if len(positions) and not 0 <= positions.min() <= positions.max() < images:
            raise self.error(
                f"{self._prefix}{role} has positions from {positions.min()} to {positions.max()}; there are {images} "
                "images, counted from 0"
            )
        if len(np.unique(positions)) < len(positions):
            raise self.error(f"{self._prefix}{role} has an image twice")
        return positions
