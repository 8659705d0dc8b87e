"""VTAB-1k task folders: `<root>/<task>/{train800,val200,train800val200,test}.txt` and the images that they list.

Each line is `images/<split>/000000.jpg <label>`.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np

from glorasearch.bounded import user_path
from glorasearch.data.names import shown
from glorasearch.data.problems import Problems
from glorasearch.data.records import FileRecords, Records
from glorasearch.data.sources.image_files import each_file_once
from glorasearch.data.sources.source_splits import SourceSplits
from glorasearch.errors import DataError

CLASSES = {
    "cifar": 100,
    "caltech101": 102,
    "dtd": 47,
    "oxford_flowers102": 102,
    "oxford_iiit_pet": 37,
    "svhn": 10,
    "sun397": 397,
    "patch_camelyon": 2,
    "eurosat": 10,
    "resisc45": 45,
    "diabetic_retinopathy": 5,
    "clevr_count": 8,
    "clevr_dist": 6,
    "dmlab": 6,
    "kitti": 4,
    "dsprites_loc": 16,
    "dsprites_ori": 16,
    "smallnorb_azi": 18,
    "smallnorb_ele": 9,
}
"""Task → number of classes."""
GROUPS = {
    "natural": ("cifar", "caltech101", "dtd", "oxford_flowers102", "oxford_iiit_pet", "svhn", "sun397"),
    "specialized": ("patch_camelyon", "eurosat", "resisc45", "diabetic_retinopathy"),
    "structured": (
        "clevr_count",
        "clevr_dist",
        "dmlab",
        "kitti",
        "dsprites_loc",
        "dsprites_ori",
        "smallnorb_azi",
        "smallnorb_ele",
    ),
}
"""Group → its tasks; VTAB-1k reports the mean of the groups' means."""
LISTS = ("train800", "val200", "train800val200", "test")
SPLITS = ("train800", "val200", "test")
LINE = "'images/<split>/000000.jpg <label>'"
MAX_LABEL_DIGITS = 9


def read_vtab(location: str) -> SourceSplits:
    """The splits of one task.

    Args:
        location: `<root>/<task>`.

    Raises:
        DataError: if the task is unknown, a list file is missing, or a line is malformed, names an image that does not
            exist or a label out of range; if a class has no image at all, or an image two labels; or if train800val200
            has other labels than train800 and val200 together.
    """
    folder = user_path(location)
    task = folder.name
    if task not in CLASSES:
        near = difflib.get_close_matches(task, CLASSES, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise DataError(f"vtab:{location}: unknown task {task!r}{hint}; the tasks are {', '.join(CLASSES)}")
    if not folder.is_dir():
        raise DataError(f"vtab:{location}: {folder} is not a folder; it must hold the lists {_list_names()}")
    problems = Problems(f"vtab:{location}")
    for name in LISTS:
        if not (folder / f"{name}.txt").is_file():
            problems.add(f"list file {folder / f'{name}.txt'} is missing; a task has the lists {_list_names()}")
    problems.raise_if_any()
    lists = {name: _read_list(folder / f"{name}.txt", CLASSES[task], problems) for name in LISTS}
    problems.raise_if_any()
    _check_labels(folder, lists, CLASSES[task])
    ignored: Counter[str] = Counter()
    once = {name: _each_once(lists[name], f"{shown(folder / name)}.txt", ignored) for name in SPLITS}
    return SourceSplits(
        subject=f"vtab:{location}",
        train=once["train800"],
        search=once["val200"],
        test=once["test"],
        class_names=tuple(str(label) for label in range(CLASSES[task])),
        fixed=True,
        origins={"train": "train800.txt", "search": "val200.txt", "test": "test.txt"},
        ignored=dict(ignored),
    )


def _list_names() -> str:
    return ", ".join(f"{name}.txt" for name in LISTS)


def _read_list(path: Path, classes: int, problems: Problems) -> FileRecords:
    paths: list[Path] = []
    labels: list[int] = []
    origins: list[str] = []
    lines = _lines(path, problems)
    for number, line in lines:
        place = f"{shown(path)}:{number}"
        fields = line.rsplit(maxsplit=1)
        digits = fields[1].removeprefix("-") if len(fields) == 2 else ""
        if not (digits.isascii() and digits.isdigit() and len(digits) <= MAX_LABEL_DIGITS):
            problems.add(f"{place}: malformed line '{shown(line[:80])}'; a line is {LINE}")
            continue
        named, label = fields[0].strip(), int(fields[1])
        image = _find(path.parent, named)
        if image is None:
            problems.add(f"{place}: image '{shown(named)}' is outside the task's folder")
        elif not 0 <= label < classes:
            problems.add(
                f"{place}: label {label} is out of range; {path.parent.name} has the labels 0 to {classes - 1}"
            )
        elif not image.exists():
            problems.add(f"{place}: image {shown(image)} does not exist; paths start at the folder of the list")
        elif not image.is_file():
            problems.add(f"{place}: image {shown(image)} is not a regular file")
        else:
            paths.append(image)
            labels.append(label)
            origins.append(place)
    return FileRecords(paths, labels, origins)


def _lines(path: Path, problems: Problems) -> list[tuple[int, str]]:
    """Number and text of the lines that are not blank, however an editor ends lines and marks UTF-8."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        problems.add(f"{shown(path)}: cannot be read as text: {error}; save it as UTF-8")
        return []
    lines = [(number, line) for number, line in enumerate(re.split("\r\n|\r|\n", text), start=1) if line.strip()]
    if not lines:
        problems.add(f"{shown(path)}: is empty; a line is {LINE}")
    return lines


def _find(folder: Path, named: str) -> Path | None:
    """The image that a line names; None if it is outside the folder.

    A path may be absolute if it leads into the folder, have the backslashes of Windows, and spell accents in another
    Unicode form than the file's name.
    """
    spellings = [named, named.replace("\\", "/")]
    spellings += [unicodedata.normalize(form, spelling) for spelling in spellings[:] for form in ("NFC", "NFD")]
    inside: list[Path] = []
    for spelling in dict.fromkeys(spellings):
        path = PurePosixPath(spelling)
        if path.is_absolute():
            starts = [start for start in (folder.absolute(), folder.resolve()) if path.is_relative_to(start)]
            if not starts:
                continue
            path = path.relative_to(starts[0])
        if ".." in path.parts:
            continue
        inside.append(folder / path)
        here = Path.cwd() / path
        if here.is_relative_to(folder.absolute()):  # as `find` prints it where the list was made
            inside.append(here)
        for candidate in inside:
            if candidate.is_file():
                return candidate
    return inside[0] if inside else None


def _each_once(records: FileRecords, subject: str, ignored: Counter[str]) -> Records:
    """Without images that the list has already, perhaps under another name.

    Raises:
        DataError: if it gives an image two labels.
    """
    labels = records.labels.tolist()
    kept = each_file_once([str(path) for path in records.paths], labels, subject, ignored)
    return records if len(kept) == len(records) else records.take(np.asarray(kept))


def _check_labels(folder: Path, lists: dict[str, FileRecords], classes: int) -> None:
    """Every class has an image in some list (800 images cannot have 397 classes in each), and the lists agree."""
    counts = {name: Counter(records.labels.tolist()) for name, records in lists.items()}
    found = set().union(*counts.values())
    if empty := sorted(set(range(classes)) - found):
        raise DataError(
            f"{folder}: {folder.name} has {classes} classes, but no list has an image of class "
            f"{', '.join(map(str, empty[:5]))}{' ...' if len(empty) > 5 else ''} ({len(empty)} empty); "
            "images are missing, or the labels belong to another task"
        )
    both, together = counts["train800"] + counts["val200"], counts["train800val200"]
    if both != together:
        differing = sorted(label for label in both | together if both[label] != together[label])
        label = differing[0]
        raise DataError(
            f"{folder / 'train800val200.txt'}: must list the images of train800.txt and val200.txt, "
            f"{both.total()}, but lists {together.total()}; class {label}: {both[label]} and {together[label]}"
        )
