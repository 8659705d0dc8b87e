"""Finding the image files of class folders, each real file once; what is not used is counted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path

from glorasearch.data.names import file_key, of_kernel, shown
from glorasearch.data.problems import Problems
from glorasearch.errors import DataError

# fmt: off
EXTENSIONS = (
    ".apng", ".avif", ".avifs", ".blp", ".bmp", ".bw", ".cur", ".dcx", ".dds", ".dib", ".fit", ".fits", ".ftc", ".ftu",
    ".gif", ".icb", ".icns", ".ico", ".im", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg",
    ".jpx", ".msp", ".pbm", ".pcd", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".pxr", ".qoi", ".ras",
    ".rgb", ".rgba", ".sgi", ".tga", ".tif", ".tiff", ".vda", ".vst", ".webp", ".xbm", ".xpm",
)
# fmt: on
"""What an image file may end in: still images that Pillow decodes by itself. A fixed list, so that a data set is the
same with every Pillow."""
SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "lost+found")
"""Folders that archives, servers and file systems add."""


class ImageFiles:
    """Collects the image files of the classes of one split.

    A file that several names lead to (links, folders linked into themselves) is taken once, under the name that is no
    link; a file in two classes is a problem.

    Args:
        problems: gets folders that cannot be listed and files that cannot be used.
        ignored: reason → how many files or folders were not used for it.
    """

    def __init__(self, problems: Problems, ignored: Counter[str]) -> None:
        self._problems, self._ignored = problems, ignored
        self._owner: dict[Hashable, tuple[str, Path]] = {}

    def refuse_kernel(self, folders: Iterable[Path]) -> None:
        """Refuse folders of the kernel before any other is read.

        Raises:
            DataError: naming the first such folder.
        """
        for folder in folders:
            self._refuse_kernel(folder, os.path.realpath(folder))

    def of_class(self, folder: Path, name: str) -> list[Path]:
        """The images of one class in the order of their names; hidden ones and other files are left out."""
        found: list[Path] = []
        links: list[Path] = []
        pending, linked, seen = [folder], list[Path](), set[str]()
        while pending or linked:  # links last, so that files are found by their own names
            here = pending.pop() if pending else linked.pop(0)
            real = os.path.realpath(here)
            if real in seen:
                self._ignored["links to a folder that is read already"] += 1
                continue
            seen.add(real)
            for entry in self._entries(here, real):
                if _is_dir(entry):
                    if entry.name in SYSTEM_FOLDERS:
                        self._ignored[f"folders {entry.name}"] += 1
                    else:
                        (linked if entry.is_symlink() else pending).append(Path(entry.path))
                elif self._is_image(entry):
                    if entry.is_symlink():
                        links.append(Path(entry.path))
                    elif self._is_new(Path(entry.path), os.path.join(real, entry.name), name):
                        found.append(Path(entry.path))
        links.sort(key=lambda path: file_key(path.relative_to(folder).as_posix()))
        found.extend(path for path in links if self._is_new(path, os.path.realpath(path), name))
        return sorted(found, key=lambda path: file_key(path.relative_to(folder).as_posix()))

    def _entries(self, folder: Path, real: str) -> Iterable[os.DirEntry[str]]:
        """What is in a folder in the order of names, without hidden entries."""
        self._refuse_kernel(folder, real)
        try:
            with os.scandir(folder) as entries:
                every = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self._problems.add(f"{shown(folder)}: cannot be listed: {error.strerror}")
            return ()
        shown_ones = [entry for entry in every if not entry.name.startswith(".")]
        if hidden := len(every) - len(shown_ones):
            self._ignored["hidden files"] += hidden
        return shown_ones

    def _refuse_kernel(self, folder: Path, real: str) -> None:
        if of_kernel(real):
            self._problems.add(f"{shown(folder)}: is {shown(real)}, made up by the kernel; a folder of files is needed")
            self._problems.raise_if_any()

    def _is_image(self, entry: os.DirEntry[str]) -> bool:
        suffix = os.path.splitext(entry.name)[1].lower()
        if suffix not in EXTENSIONS:
            self._ignored[f"files that end in {shown(suffix)}" if suffix else "files without a suffix"] += 1
        elif os.path.isfile(entry.path):
            return True
        elif entry.is_symlink() and not os.path.exists(entry.path):
            self._problems.add(
                f"{shown(entry.path)}: does not exist: the link leads to {shown(os.readlink(entry.path))}"
            )
        else:
            self._ignored["pipes, sockets and devices"] += 1
        return False

    def _is_new(self, path: Path, real: str, name: str) -> bool:
        """Note the file; False if it is there already."""
        if of_kernel(real):
            self._ignored["files of the kernel"] += 1
            return False
        owner, other = self._owner.setdefault(_key(path, real), (name, path))
        if other is path:
            return True
        if owner == name:
            self._ignored["further names of a file"] += 1
        else:
            self._problems.add(
                f"{shown(other)} and {shown(path)}: one file, but classes {owner!r} and {name!r}; remove one of them"
            )
        return False


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def each_file_once(
    paths: Sequence[str],
    labels: Sequence[Hashable],
    subject: str,
    ignored: Counter[str],
    twice: str = "in two classes",
) -> list[int]:
    """Positions of files that somebody else listed, without further names of the same file.

    Raises:
        DataError: if a file has two labels.
    """
    folders: dict[str, str] = {}
    seen: dict[Hashable, int] = {}
    kept: list[int] = []
    for place, (path, label) in enumerate(zip(paths, labels, strict=True)):
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        real = os.path.join(folders[folder], name)
        try:
            key = _key(path, os.path.realpath(real) if os.path.islink(path) else real)
        except OSError:  # reading it will say why
            key = path
        first = seen.setdefault(key, place)
        if first == place:
            kept.append(place)
        elif labels[first] == label:
            ignored["further names of a file"] += 1
        else:
            both = f"{shown(paths[first])} and {shown(path)}"
            raise DataError(f"{subject}: {both}: one file {twice}; remove one of them")
    return kept


def _key(path: str | Path, real: str) -> Hashable:
    """What two names of one file have in common."""
    status = os.stat(path)
    return (status.st_dev, status.st_ino) if status.st_nlink > 1 else real
