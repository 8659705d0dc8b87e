"""Weight sets on this node: fetched once, verified once, and mapped into memory by every process that uses them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from torch import Tensor

from glorasearch.errors import WeightsCorruptError, WeightStoreError
from glorasearch.weights.atomic import publish_directory, remove_leftovers, temporary_directory, write_synced
from glorasearch.weights.digest import tensor_entries
from glorasearch.weights.encoding import decode, encode, map_file
from glorasearch.weights.manifest import MANIFEST_NAME, WEIGHTS_NAME, Manifest
from glorasearch.weights.store import StoredWeights, WeightStore

_log = logging.getLogger(__name__)

FOLDER_VARIABLE: Final = "GLORASEARCH_CACHE"
LIMIT_VARIABLE: Final = "GLORASEARCH_CACHE_GIB"
DEFAULT_LIMIT_GIB: Final = 20.0
_MADE: Final = "made-"
"""Prefix of the names of entries that `remember` made; others are named by the digest of their weight set."""


class NodeCache:
    """A folder of weight sets that the processes of a node share, including the pages in memory.

    Each entry is a directory that appears whole or not at all and is never changed. Its tensors are views of a private
    mapping of its file, so writing into a tensor changes it for this process alone. An entry is fetched under a lock
    that the kernel releases when its process dies: the others wait, and if the fetching process dies, the next one
    fetches.

    All checksums are verified when an entry is made. Afterwards a file counts as verified while its size, inode and
    times are unchanged.

    When the folder grows beyond its limit, the least recently used entries are removed, except the newest and those
    that some process of the node has mapped. If the folder cannot be written, the tensors are just not shared.
    """

    def __init__(self, folder: Path | None = None, *, limit_gib: float | None = None) -> None:
        """Use a folder on a disk of this node.

        Args:
            folder: by default `$GLORASEARCH_CACHE`, else `$XDG_CACHE_HOME/glorasearch`, else `~/.cache/glorasearch`;
                if none of these can be written, a folder of this user under the directory for temporary files.
            limit_gib: GiB (2**30 bytes) that all entries together may take; by default `$GLORASEARCH_CACHE_GIB`, or 20.

        Raises:
            WeightStoreError: if the limit is not a number, or no folder can be written.
        """
        self.folder = _writable_folder(folder)
        self.limit_bytes = int((_default_limit() if limit_gib is None else limit_gib) * 2**30)

    def get(self, store: WeightStore, digest: str) -> StoredWeights:
        """A weight set of a store, its tensors mapped.

        It is copied to this node and verified once, by whichever process comes first. The files of a store on a file
        system of this machine are mapped in place, after the same single verification.

        Raises:
            WeightsNotFoundError: if it is neither here nor in the store.
            WeightsCorruptError: if it is damaged in the store.
        """
        place = store.local_folder(digest)
        if place is not None:
            manifest, tensors = self._map_in_place(store, digest, place)
        else:
            manifest, tensors = self._entry(digest, lambda: store.read(digest))
        return StoredWeights(digest, tensors, manifest.to_dict())

    def remember(self, key: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors that `make` returns, made by the first process of the node and mapped by all.

        Args:
            key: everything that the tensors depend on: two calls with the same key must make the same tensors.
            make: called while the other processes wait.

        Raises:
            WeightStoreError: if a tensor cannot be stored as safetensors.
        """

        def files() -> tuple[bytes, bytes]:
            tensors = make()
            content = encode(tensors)
            return Manifest.of({"key": key}, tensor_entries(tensors), content).encode(), content

        return self._entry(f"{_MADE}{hashlib.sha256(key.encode()).hexdigest()}", files)[1]

    def _map_in_place(self, store: WeightStore, digest: str, place: Path) -> tuple[Manifest, dict[str, Tensor]]:
        path = place / WEIGHTS_NAME
        marker = self._marker(f"at-{hashlib.sha256(str(path).encode()).hexdigest()}")
        with self._lock(marker.stem):
            if not _is_marked(marker, path):
                before = _state(path) if path.exists() else None
                store.verify(digest)
                if before is not None:
                    _mark(marker, before)
            manifest = Manifest.decode((place / MANIFEST_NAME).read_bytes(), digest, str(place / MANIFEST_NAME))
            with path.open("rb") as file:
                return manifest, map_file(file, manifest.tensors, path)

    def _entry(self, name: str, files: Callable[[], tuple[bytes, bytes]]) -> tuple[Manifest, dict[str, Tensor]]:
        """The entry of that name; if it is missing or damaged, `files` returns its manifest and weights file."""
        place = self.folder / name
        with self._lock(name) as lock:
            found = self._mapped(name)
            if found is None:
                manifest, content = files()
                try:
                    self._publish(place, manifest, content)
                except OSError as error:
                    _log.warning("node cache %s cannot be written (%s): the weights are not shared", place, error)
                    own = Manifest.decode(manifest, None, str(place))
                    return own, _check(own, content, str(place))
                found = self._mapped(name)
                if found is None:
                    raise WeightsCorruptError(f"{place}: altered right after it was written")
                self._shrink(keep=name)
            os.utime(lock.fileno())  # the time of last use
            return found

    def _mapped(self, name: str) -> tuple[Manifest, dict[str, Tensor]] | None:
        """The entry, if it is there and sound; a damaged one is removed."""
        place = self.folder / name
        path = place / WEIGHTS_NAME
        try:
            digest = None if name.startswith(_MADE) else name
            manifest = Manifest.decode((place / MANIFEST_NAME).read_bytes(), digest, str(place / MANIFEST_NAME))
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)  # lives as long as the mapping, and keeps the entry from removal
                if not _is_marked(self._marker(name), path):
                    before = _state(path)
                    _check(manifest, path.read_bytes(), str(path))
                    _mark(self._marker(name), before)
                return manifest, map_file(file, manifest.tensors, path)
        except FileNotFoundError:
            pass
        except WeightsCorruptError as error:
            _log.warning("node cache: replacing a damaged entry: %s", error)
        self._remove(name)
        return None

    def _publish(self, place: Path, manifest: bytes, content: bytes) -> None:
        remove_leftovers(self.folder)
        with temporary_directory(place) as temporary:
            write_synced(temporary / WEIGHTS_NAME, content)
            write_synced(temporary / MANIFEST_NAME, manifest)
            publish_directory(temporary, place)
        _mark(self._marker(place.name), _state(place / WEIGHTS_NAME))

    def _shrink(self, keep: str) -> None:
        """Remove the least recently used entries that are not in use, until the folder is within its limit."""
        locks = {path.stem: path.stat().st_mtime_ns for path in self.folder.glob("*.lock")}
        sizes = {name: _size(self.folder / name) for name in locks}
        total = sum(sizes.values())
        for name in sorted(sizes.keys() - {keep}, key=lambda name: locks[name]):
            if total <= self.limit_bytes:
                return
            with self._try_lock(name) as free:
                if free and not _is_in_use(self.folder / name / WEIGHTS_NAME):
                    self._remove(name)
                    total -= sizes[name]

    def _remove(self, name: str) -> None:
        self._marker(name).unlink(missing_ok=True)
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def _marker(self, name: str) -> Path:
        return self.folder / f"{name}.verified"

    @contextmanager
    def _lock(self, name: str) -> Iterator[BinaryIO]:
        """Exclude the other processes of this node from an entry.

        `flock` itself, not the `filelock` package: that one polls, may fall back to a lock that outlives its process,
        and has no shared locks, which mappings need. The file stays: others may wait for it, and its modification
        time is when the entry was last used.
        """
        with (self.folder / f"{name}.lock").open("ab") as file:
            try:
                if not _flock(file):
                    _log.info("waiting for another process of this node to finish with %s", name)
                    fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                advice = f"give a folder on a disk of this node by {FOLDER_VARIABLE}"
                raise WeightStoreError(f"node cache {self.folder} cannot be locked ({error}); {advice}") from error
            yield file

    @contextmanager
    def _try_lock(self, name: str) -> Iterator[bool]:
        with (self.folder / f"{name}.lock").open("ab") as file:
            yield _flock(file)


def _flock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_in_use(path: Path) -> bool:
    """Whether a process has the file mapped."""
    try:
        with path.open("r+b") as file:  # NFS requires write access for an exclusive lock
            return not _flock(file)
    except FileNotFoundError:
        return False


def _size(place: Path) -> int:
    """Size of an entry in bytes; 0 if it is not there."""
    try:
        return sum(file.stat().st_size for file in place.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _state(path: Path) -> list[int]:
    """The metadata that change when a file is replaced or written to."""
    found = path.stat()
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _mark(marker: Path, state: list[int]) -> None:
    marker.write_text(json.dumps(state))


def _is_marked(marker: Path, path: Path) -> bool:
    """Whether the file is still the one that was verified."""
    try:
        return bool(json.loads(marker.read_text()) == _state(path))
    except (FileNotFoundError, ValueError):
        return False


def _check(manifest: Manifest, content: bytes, source: str) -> dict[str, Tensor]:
    """The tensors of a weights file, in memory of their own, after checking it against its manifest."""
    tensors = decode(content, manifest.tensors, source)
    difference = manifest.check_file(content)
    if difference is not None:
        raise WeightsCorruptError(f"{source}: {difference}")
    return tensors


def _default_limit() -> float:
    given = os.environ.get(LIMIT_VARIABLE, "")
    try:
        limit = float(given) if given else DEFAULT_LIMIT_GIB
    except ValueError:
        limit = -1.0
    if not 0 <= limit < float("inf"):
        raise WeightStoreError(f"{LIMIT_VARIABLE} is {given!r}; give a number of GiB, 0 or more")
    return limit


def _writable_folder(wanted: Path | None) -> Path:
    """The first of the candidate folders that can be written."""
    given = str(wanted) if wanted is not None else os.environ.get(FOLDER_VARIABLE, "")
    base = os.environ.get("XDG_CACHE_HOME", "") or "~/.cache"
    candidates = [given] if given else []
    candidates += [f"{base}/glorasearch", f"{tempfile.gettempdir()}/glorasearch-cache-{os.getuid()}"]
    failures: list[str] = []
    for candidate in candidates:
        folder = Path(os.path.abspath(os.path.expanduser(candidate)))
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK) or folder.stat().st_uid != os.getuid():
                raise PermissionError(f"{folder} does not belong to this user or cannot be written")
        except OSError as error:
            failures.append(str(error))
            if candidate == given:
                _log.warning("node cache: %s; using another folder", error)
            continue
        return folder
    raise WeightStoreError(f"no folder for the node cache: {'; '.join(failures)}; give one by {FOLDER_VARIABLE}")
