"""A CSV file that lists images and what they show: a line an image, the file first."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from glorasearch.bounded import user_path
from glorasearch.data.config import CSV
from glorasearch.data.names import natural_key, one_form, shown
from glorasearch.data.problems import Problems, some
from glorasearch.data.records import FileRecords, Targets
from glorasearch.data.sources.folder import SPLIT_FOLDERS
from glorasearch.data.sources.image_files import each_file_once
from glorasearch.data.sources.source_splits import SourceSplits
from glorasearch.errors import DataError
from glorasearch.tasks.kinds import TaskKind, unclear, words_of

SPLIT: Final = "split"
"""Name of the column that says in which split an image is."""
_ROLES: Final = {name: role for role, names in SPLIT_FOLDERS.items() for name in names}
FORM: Final = {
    "classify": "file,label and a line an image, such as photos/1.jpg,cat",
    "multilabel": "file,cat,dog and a line an image with 0 or 1 for each label, such as photos/1.jpg,1,0",
    "regress": "file,age,height and a line an image with a number for each target, such as photos/1.jpg,34,1.71",
}
"""Task → what a file looks like."""


@dataclass
class _Lines:
    """The images of one split."""

    paths: list[Path] = field(default_factory=list)
    cells: list[tuple[str, ...]] = field(default_factory=list)
    """What the columns of labels, or targets, hold."""
    origins: list[str] = field(default_factory=list)


def read_csv(location: str, root: str | None, task: TaskKind) -> SourceSplits:
    """The images that a CSV lists.

    The first line names the columns. The first column has the files, relative to `root`. A column `split` is optional,
    with `train`, `val` (or `search`) and `test`. One more column has the class of each image; with several labels an
    image, each has 0 or 1, for the label that it is named after; with numbers, each has a target.

    Args:
        location: of the file.
        root: folder of the images; that of the CSV if not given.
        task: what is asked of the images.

    Raises:
        DataError: naming the lines that cannot be used.
    """
    path = user_path(location)
    problems = Problems(f"{CSV}{shown(location)}")
    names, lines = _read(path, path.parent if root is None else user_path(root), task, problems)
    problems.raise_if_any()
    if "train" not in lines:
        found = f"those of its column {SPLIT!r} are all of {some(list(lines))}" if lines else "it has a header alone"
        raise DataError(f"{problems.subject}: has no images to train on; {found}")
    if task == "classify":
        names = tuple(sorted({cells[0] for own in lines.values() for cells in own.cells}, key=natural_key))
    targets = {role: _targets(own, names, task, problems) for role, own in lines.items()}
    problems.raise_if_any()
    ignored: Counter[str] = Counter()
    twice = "with different numbers" if task == "regress" else "in two classes"
    records = {role: _records(own, targets[role], problems.subject, ignored, twice) for role, own in lines.items()}
    return SourceSplits(
        problems.subject,
        records["train"],
        names,
        task,
        search=records.get("search"),
        test=records.get("test"),
        origins={role: shown(path) if len(records) == 1 else f"{shown(path)}, {SPLIT} {role}" for role in records},
        ignored=dict(ignored),
    )


def _read(path: Path, root: Path, task: TaskKind, problems: Problems) -> tuple[tuple[str, ...], dict[str, _Lines]]:
    """The names of the columns with labels, and the lines of each split."""
    if not path.is_file():
        raise DataError(f"{problems.subject}: {shown(path)} is not a file; expected a header {FORM[task]}")
    lines: dict[str, _Lines] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, strict=True)
            header = [one_form(name.strip()) for name in next(rows, [])]
            names = _columns(header, task, problems)
            for number, cells in _numbered(rows, len(header), path, problems):
                role = _role(header, cells)
                if role is None:
                    found = shown(_cell(header, cells))
                    problems.add(f"{path.name}:{number}: {SPLIT} is {found!r}; expected train, val or test")
                    continue
                own = lines.setdefault(role, _Lines())
                own.paths.append(root / cells[0])
                own.cells.append(tuple(cell for name, cell in zip(header[1:], cells[1:], strict=True) if name != SPLIT))
                own.origins.append(f"{path.name}:{number}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{problems.subject}: {shown(path)} cannot be read as CSV in UTF-8: {error}") from error
    return names, lines


def _columns(header: Sequence[str], task: TaskKind, problems: Problems) -> tuple[str, ...]:
    names, outputs = tuple(name for name in header[1:] if name != SPLIT), words_of(task).outputs
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        problems.add(f"columns {some(twice)} are there more than once")
    if fault := unclear(task, names):
        problems.add(fault)
    if not names or (task == "classify" and len(names) > 1):
        found = f"after the file its columns are {some(names)}" if names else f"it has no column of {outputs}"
        hint = '; several labels an image need data.task = "multilabel", and numbers "regress"' if names else ""
        problems.add(f"{found}; expected a header {FORM[task]}{hint}")
    problems.raise_if_any()
    return names


def _numbered(
    rows: Iterator[list[str]], columns: int, path: Path, problems: Problems
) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every row that has them all; blank lines are left out."""
    for number, cells in enumerate(rows, 2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != columns:
            problems.add(f"{path.name}:{number}: has {len(cells)} cells, the header {columns}")
        elif not cells[0].strip():
            problems.add(f"{path.name}:{number}: names no file")
        else:
            yield number, [cell.strip() for cell in cells]


def _cell(header: Sequence[str], cells: Sequence[str]) -> str:
    return cells[header.index(SPLIT, 1)]


def _role(header: Sequence[str], cells: Sequence[str]) -> str | None:
    """The split of a line; all are to be split where no column says."""
    return _ROLES.get(_cell(header, cells).lower()) if SPLIT in header[1:] else "train"


def _targets(lines: _Lines, names: Sequence[str], task: TaskKind, problems: Problems) -> Targets:
    """`(N,)` classes, `(N, labels)` float32, or `(N, targets)` float64."""
    if task == "classify":
        for origin, cells in zip(lines.origins, lines.cells, strict=True):
            if not cells[0]:
                problems.add(f"{origin}: has no label")
        places = {name: place for place, name in enumerate(names)}
        return np.array([places[cells[0]] for cells in lines.cells], dtype=np.int64)
    if task == "regress":
        return _numbers(lines, names, problems)
    known = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0}
    for origin, cells in zip(lines.origins, lines.cells, strict=True):
        for name, cell in zip(names, cells, strict=True):
            if cell not in known:
                problems.add(f"{origin}: label {shown(name)!r} is {shown(cell)!r}; expected 0 or 1")
    return np.array([[known.get(cell, 0.0) for cell in cells] for cells in lines.cells], dtype=np.float32)


def _numbers(lines: _Lines, names: Sequence[str], problems: Problems) -> Targets:
    """`(N, targets)` float64."""
    found = np.zeros((len(lines.cells), len(names)))
    for row, (origin, cells) in enumerate(zip(lines.origins, lines.cells, strict=True)):
        for column, (name, cell) in enumerate(zip(names, cells, strict=True)):
            number = _number(cell)
            if number is None:
                what = f"is {shown(cell)!r}; expected a number, such as 34 or 1.71" if cell else "is missing"
                problems.add(f"{origin}: target {shown(name)!r} {what}")
            else:
                found[row, column] = number
    return found


def _number(cell: str) -> float | None:
    """A finite number, with a point and without separators of thousands."""
    try:
        number = math.nan if "_" in cell else float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _records(lines: _Lines, targets: Targets, subject: str, ignored: Counter[str], twice: str) -> FileRecords:
    labels = [tuple(row) for row in targets.tolist()] if targets.ndim == 2 else lines.cells
    kept = each_file_once([str(path) for path in lines.paths], labels, subject, ignored, twice)
    return FileRecords([lines.paths[n] for n in kept], targets[kept], [lines.origins[n] for n in kept])
