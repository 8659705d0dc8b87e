"""A folder of images: one folder per class, optionally within one folder per split."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from glorasearch.data.problems import Problems
from glorasearch.data.records import FileRecords
from glorasearch.data.sources.source_splits import SourceSplits
from glorasearch.errors import DataError

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "search": ("search", "val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Split → names of its folder."""
EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

logger = logging.getLogger(__name__)


def read_folder(location: str) -> SourceSplits:
    """The images under a folder.

    If there is a folder `train/` with one folder per class, `search/` (or `val/`) and `test/` beside it are used, too.
    Otherwise each folder is a class, and all images are one list. Classes are in natural order of their folders'
    names: `class2` before `class10`.

    Raises:
        DataError: if the folder or its classes are missing, a class has no image, or a split has a class that the
            training split lacks.
    """
    root = Path(location).expanduser()
    subject = f"folder:{location}"
    if not root.is_dir():
        raise DataError(f"{subject}: {root} is not a folder; it must have a folder of images for each class")
    folders = split_folders(root, subject)
    if not folders:
        names = class_folders(root)
        _check_classes(names, subject, root)
        problems = Problems(subject)
        train = _read_classes(root, names, names, problems)
        problems.raise_if_any()
        return SourceSplits(subject, train, tuple(names), origins={"train": str(root)})
    names = class_folders(folders["train"])
    _check_classes(names, subject, folders["train"])
    problems = Problems(subject)
    records = {role: _read_classes(folder, class_folders(folder), names, problems) for role, folder in folders.items()}
    problems.raise_if_any()
    return SourceSplits(
        subject,
        records["train"],
        tuple(names),
        search=records.get("search"),
        test=records.get("test"),
        origins={role: str(folder) for role, folder in folders.items()},
    )


def split_folders(root: Path, subject: str) -> dict[str, Path]:
    """The folder of each split; empty if the folders of `root` are classes.

    Raises:
        DataError: if two folders stand for the same split.
    """
    found: dict[str, Path] = {}
    for role, names in SPLIT_FOLDERS.items():
        present = [root / name for name in names if (root / name).is_dir()]
        if len(present) > 1:
            both = " and ".join(f"{folder.name}/" for folder in present)
            raise DataError(f"{subject}: {both} both stand for the {role} split; keep one of them")
        if present:
            found[role] = present[0]
    if "train" not in found or not class_folders(found["train"]):
        return {}
    ignored = sorted(set(class_folders(root)) - {folder.name for folder in found.values()})
    if ignored:
        logger.warning("%s: the splits are %s; not used: %s", subject, ", ".join(found), ", ".join(ignored))
    return found


def class_folders(folder: Path) -> list[str]:
    """Names of its subfolders in natural order, without hidden ones."""
    return sorted(
        (entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")), key=_natural
    )


def image_files(folder: Path) -> list[Path]:
    """The image files in it and its subfolders, in natural order, without hidden ones."""
    found = [
        Path(parent, file)
        for parent, _, files in os.walk(folder, followlinks=True)
        for file in files
        if not file.startswith(".") and os.path.splitext(file)[1].lower() in EXTENSIONS
    ]
    return sorted(found, key=lambda path: _natural(path.relative_to(folder).as_posix()))


def _check_classes(names: Sequence[str], subject: str, folder: Path) -> None:
    if len(names) < 2:
        found = f"one folder, {names[0]!r}" if names else "no folder"
        raise DataError(
            f"{subject}: {folder} has {found}; it needs a folder of images for each of at least two classes"
        )


def _read_classes(folder: Path, present: Sequence[str], names: Sequence[str], problems: Problems) -> FileRecords:
    index: Mapping[str, int] = {name: position for position, name in enumerate(names)}
    paths: list[Path] = []
    labels: list[int] = []
    for name in present:
        if name not in index:
            problems.add(f"{folder / name}: class {name!r} has no folder in the training split")
            continue
        files = image_files(folder / name)
        if not files:
            problems.add(f"{folder / name}: class {name!r} is empty: no file that ends in {', '.join(EXTENSIONS)}")
        paths.extend(files)
        labels.extend([index[name]] * len(files))
    if not present:
        problems.add(f"{folder}: has no folder of images for any class")
    return FileRecords(paths, labels)


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sort key that orders numbers in names by value; the name itself breaks ties."""
    parts = re.findall(r"\d+|\D+", name)
    return [(int(part), "") if part.isdecimal() else (-1, part.lower()) for part in parts], name
