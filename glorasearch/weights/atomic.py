"""Files and directories on a local disk that appear whole or not at all, also after a kill or a power failure.

Everything is written under a temporary name beside its target, flushed to the disk and renamed. The temporary name
holds the writer's process id, which distinguishes leftovers of a killed process from files being written.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

_PREFIX = ".glorasearch-tmp-"
"""Unique to this package: leftovers with this prefix are deleted."""
ROOM: Final = (
    "what had been written before is kept: make room there, or the folder writable, and run the same command again"
)
"""What to do about a file that cannot be written."""
_CHUNK_BYTES = 1 << 20
_FOREIGN_AGE_SECONDS = 24 * 3600
"""A temporary file of another machine, whose process cannot be checked, counts as a leftover after this time."""


def temporary_beside(target: Path) -> Path:
    """A new temporary name in the directory of `target`, with this process's id in it."""
    return target.parent / f"{_PREFIX}{os.getpid()}-{_machine()}-{secrets.token_hex(4)}-{target.name}"


@contextmanager
def temporary_directory(target: Path) -> Iterator[Path]:
    """An empty temporary directory beside `target`, removed at the end unless it has been renamed."""
    path = temporary_beside(target)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def write_synced(path: Path, content: bytes) -> None:
    """Write a new file, of mode 0644 less the umask, and flush it to the disk; not atomic by itself."""
    view = memoryview(content)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
        for start in range(0, len(view), _CHUNK_BYTES):
            file.write(view[start : start + _CHUNK_BYTES])
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, content: bytes, previous: Path | None = None) -> None:
    """Write `content` to `path` atomically; the file that was there is kept as `previous`, if that is given.

    The old file becomes `previous` only once the new one is in place, so a damaged `path` never replaces a sound
    `previous` unless the new file is there.
    """
    temporary, old = temporary_beside(path), temporary_beside(path)
    try:
        write_synced(temporary, content)
        linked = previous is not None and _link(path, old)
        if previous is not None and not linked and path.exists():
            path.replace(previous)
        temporary.replace(path)
        sync_path(path.parent)
        if previous is not None and linked:
            old.replace(previous)
    finally:
        temporary.unlink(missing_ok=True)
        old.unlink(missing_ok=True)


def publish_directory(temporary: Path, target: Path, *, replace: bool = False) -> bool:
    """Rename a finished directory to its final name; False if something of that name exists already.

    With `replace` the existing directory is moved aside first: a kill in between leaves none at `target`. Files of it
    that have no successor are kept.
    """
    for file in temporary.iterdir():
        sync_path(file)
    sync_path(temporary)
    old = temporary_beside(target)
    if replace and target.exists():
        target.rename(old)
    try:
        temporary.rename(target)
    except OSError:
        if target.exists():
            return False
        raise
    for entry in old.iterdir() if old.is_dir() else ():
        if not (target / entry.name).exists():  # what somebody else has put there
            entry.rename(target / entry.name)
    sync_path(target.parent)
    shutil.rmtree(old, ignore_errors=True)
    return True


def sync_path(path: Path) -> None:
    """Flush a file, or a directory's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(directory: Path) -> list[Path]:
    """Remove the temporary files in `directory` whose writers are dead; returns what was removed."""
    removed: list[Path] = []
    for path in sorted(directory.glob(f"{_PREFIX}*")):
        if _is_left_behind(path):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def _link(path: Path, name: Path) -> bool:
    """Hard-link a file; False if there is no file, or the file system has no hard links."""
    try:
        name.hardlink_to(path)
    except OSError:
        return False
    return True


def _is_left_behind(path: Path) -> bool:
    process, machine, *_ = [*path.name.removeprefix(_PREFIX).split("-"), "", ""]
    if machine == _machine() and process.isdigit():
        return not psutil.pid_exists(int(process))
    try:
        return time.time() - path.stat().st_mtime > _FOREIGN_AGE_SECONDS
    except FileNotFoundError:
        return False


def _machine() -> str:
    """Host name and process-id namespace: two containers on a shared disk must not look up each other's process ids."""
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        namespace = 0
    return f"{socket.gethostname().replace('-', '_').replace('/', '_')}_{namespace}"
