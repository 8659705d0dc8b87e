"""A folder of images: one folder per class, optionally within one folder per split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from glorasearch.bounded import user_path
from glorasearch.data.names import natural_key, one_form, shown
from glorasearch.data.problems import Problems
from glorasearch.data.records import FileRecords
from glorasearch.data.sources.image_files import EXTENSIONS, SYSTEM_FOLDERS, ImageFiles
from glorasearch.data.sources.source_splits import SourceSplits
from glorasearch.errors import DataError

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "search": ("search", "val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Split → names of its folder."""


def read_folder(location: str) -> SourceSplits:
    """The images under a folder.

    If there is a folder `train/` with one folder per class, `search/` (or `val/`) and `test/` beside it are used, too.
    Otherwise each folder is a class, and all images are one list. Classes are in timm's order of their folders'
    names: `class2` before `class10`, digits before letters. Names that differ in their Unicode form only are the same
    class. Each real file is one image, however many links lead to it.

    Raises:
        DataError: if the folder or its classes are missing, a class has no image or a name that cannot be shown, a
            split has a class that the training split lacks, or a file is in two classes.
    """
    root = user_path(location)
    subject = f"folder:{shown(location)}"
    if not root.is_dir():
        raise DataError(f"{subject}: {shown(root)} is not a folder; it must have a folder of images for each class")
    ignored: Counter[str] = Counter()
    folders = split_folders(root, subject, ignored) or {"all": root}
    first = folders.get("train", root)
    problems = Problems(subject)
    classes = _named(first, problems)
    problems.raise_if_any()
    _check_classes(list(classes), subject, first)
    records: dict[str, FileRecords] = {}
    for role, folder in folders.items():
        present = _named(folder, problems, ignored)
        records[role] = _read_classes(folder, present, list(classes), problems, ignored)
    problems.raise_if_any()
    return SourceSplits(
        subject,
        records["train"] if "train" in records else records["all"],
        tuple(classes),
        search=records.get("search"),
        test=records.get("test"),
        origins={"train" if role == "all" else role: shown(folder) for role, folder in folders.items()},
        ignored=dict(sorted(ignored.items())),
    )


def split_folders(root: Path, subject: str, ignored: Counter[str] | None = None) -> dict[str, Path]:
    """The folder of each split; empty if the folders of `root` are classes. Others are counted in `ignored`.

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
    if ignored is not None:
        for name in set(class_folders(root)) - {folder.name for folder in found.values()}:
            ignored[f"folders {shown(name)}/ beside the splits"] += 1
    return found


def class_folders(folder: Path) -> list[str]:
    """Names of its subfolders in timm's order, without hidden ones and those that systems add.

    Raises:
        DataError: if it cannot be listed.
    """
    try:
        names = [entry.name for entry in folder.iterdir() if entry.is_dir()]
    except OSError as error:
        raise DataError(f"{shown(folder)}: cannot be listed: {error.strerror}") from error
    return sorted((name for name in names if not name.startswith(".") and name not in SYSTEM_FOLDERS), key=natural_key)


def _named(folder: Path, problems: Problems, ignored: Counter[str] | None = None) -> dict[str, Path]:
    """Class → its folder, in the order of the folders' names; what else is there is counted in `ignored`."""
    found: dict[str, Path] = {}
    for own in class_folders(folder):
        name = one_form(own)
        if name in found:
            problems.add(
                f"{shown(folder)}: two folders are called {shown(name)!r}, spelled in two Unicode forms; merge them"
            )
        found[name] = folder / own
    if ignored is not None:
        other = sum(not entry.is_dir() for entry in folder.iterdir())
        if other:
            ignored["files beside the folders of the classes"] += other
        if hidden := sum(entry.is_dir() for entry in folder.iterdir()) - len(found):
            ignored["hidden and system folders"] += hidden
    return found


def _check_classes(names: Sequence[str], subject: str, folder: Path) -> None:
    if len(names) < 2:
        found = f"one folder, '{shown(names[0])}'" if names else "no folder"
        raise DataError(
            f"{subject}: {shown(folder)} has {found}; it needs a folder of images for each of at least two classes"
        )


def _read_classes(
    folder: Path, present: Mapping[str, Path], names: Sequence[str], problems: Problems, ignored: Counter[str]
) -> FileRecords:
    index: Mapping[str, int] = {name: position for position, name in enumerate(names)}
    files = ImageFiles(problems, ignored)
    files.refuse_kernel(present.values())
    paths: list[Path] = []
    labels: list[int] = []
    for name, own in sorted(present.items(), key=lambda item: index.get(item[0], -1)):
        if name not in index:
            problems.add(f"{shown(own)}: class '{shown(name)}' has no folder in the training split")
            continue
        found = files.of_class(own, name)
        if not found:
            problems.add(f"{shown(own)}: class '{shown(name)}' is empty: no file that ends in {', '.join(EXTENSIONS)}")
        paths.extend(found)
        labels.extend([index[name]] * len(found))
    if not present:
        problems.add(f"{shown(folder)}: has no folder of images for any class")
    return FileRecords(paths, labels)
