"""Images that a person names one by one: files, folders, and lists of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from glorasearch.bounded import user_path
from glorasearch.data.names import describe_ignored, shown
from glorasearch.data.problems import Problems
from glorasearch.data.sources.image_files import ImageFiles


def given_images(paths: Iterable[str | Path], ignored: Counter[str] | None = None) -> list[Path]:
    """The images that files and folders name, in their order; no image is opened.

    A file is taken whatever its name ends in. Of a folder, and those below it, the files that end as images do are
    taken, each real file once, in the order of their names.

    Args:
        paths: files and folders.
        ignored: reason → how many files or folders of the folders were not used for it.

    Raises:
        DataError: naming the paths that do not exist, and the folders without an image.
    """
    problems, counted = Problems("images to predict"), Counter[str]() if ignored is None else ignored
    folders = ImageFiles(problems, counted)
    found: list[Path] = []
    for given in paths:
        path = user_path(given)
        if path.is_dir():
            found.extend(_of_folder(path, folders, problems, counted))
        elif os.path.lexists(path) and path.exists():
            found.append(path)
        else:
            problems.add(f"{shown(path)}: does not exist")
    if not found and not problems.found:
        problems.add("none are given")
    problems.raise_if_any()
    return found


def listed_paths(text: bytes) -> list[Path]:
    """The paths of a list, one a line; blank lines are left out."""
    lines = (line.removesuffix(b"\r") for line in text.split(b"\n"))
    return [Path(os.fsdecode(line)) for line in lines if line.strip()]


def _of_folder(path: Path, folders: ImageFiles, problems: Problems, ignored: Counter[str]) -> list[Path]:
    before, problematic = Counter(ignored), len(problems.found)
    images = folders.of_class(path, "")
    if not images and len(problems.found) == problematic:
        other = describe_ignored(ignored - before)
        has = f"; it has {other}" if other else ""
        problems.add(f"{shown(path)}: no file in it ends as images do, in .jpg, .png, .tif, ...{has}")
    return images
