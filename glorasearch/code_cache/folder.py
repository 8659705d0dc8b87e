"""A folder of compiled code: one part for every set of versions, checked before it is used, and locked while it is.

    ROOT/lock                     held while a part is opened or removed
    ROOT/KEY.lock                 held, shared, by every process that uses the part; its time is that of the last use
    ROOT/KEY/facts.json           the versions of which KEY is the digest
    ROOT/KEY/sums/*.json          path -> SHA-256, of what processes have written, a file a process
    ROOT/KEY/inductor, triton     what the compilers keep

This module needs no torch.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from glorasearch.identity import digest

COMPILERS: Final = ("inductor", "triton")
"""Folders of a part, by compiler."""
_FACTS: Final = "facts.json"
_SUMS: Final = "sums"
_MARKS: Final = (".lock", ".load_ok")
"""Files of the compilers that are empty."""


class CodeFolder:
    """The part of a folder for one set of versions, in use by this process until that ends.

    The compilers write each file whole, under names that are digests of what was compiled, so processes may use a part
    at the same time. The first of them compares every file with its sum, and removes what differs and what has none:
    what was damaged, what does not belong there, and what a killed process had not sealed yet.
    """

    def __init__(self, root: Path, facts: Mapping[str, str]) -> None:
        """Open a part, which is made if it is not there.

        Raises:
            OSError: if the folder cannot be made, locked or written, or is not this user's alone: it holds code.
        """
        self.path = self.place(root, facts)
        self.dropped: tuple[str, ...] = ()
        """Files that were removed, by their paths in the part; `facts.json` stands for all of it."""
        self._sums: dict[str, str] = {}
        self._seen: dict[str, tuple[int, int]] = {}
        self._own = f"{os.getpid()}-{secrets.token_hex(4)}.json"
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_owner(root)
        with _locked(root / "lock"):
            self._lock = (root / f"{self.path.name}.lock").open("ab")
            os.utime(self._lock.fileno())
            if _try_lock(self._lock):
                self._check(dict(facts))
            fcntl.flock(self._lock, fcntl.LOCK_SH)

    @staticmethod
    def place(root: Path, facts: Mapping[str, str]) -> Path:
        """The part of these versions."""
        return root / digest(dict(facts))[:16]

    @property
    def bytes(self) -> int:
        """Size of the part in bytes."""
        return _size(self.path)

    def seal(self) -> None:
        """Note the sums of what was written since the last call, whichever process wrote it.

        Raises:
            OSError: if the sums cannot be written.
        """
        new: dict[str, str] = {}
        for path, name in self._files():
            try:
                found = path.stat()
                state = found.st_size, found.st_mtime_ns
                if self._seen.get(name) != state and not _passing(name, found.st_size):
                    new[name] = _sum(path)
                    self._seen[name] = state
            except FileNotFoundError:  # of another process, which has renamed it
                continue
        if any(self._sums.get(name) != value for name, value in new.items()):
            self._sums |= new
            self._write_sums(self._own)

    def close(self) -> None:
        """Let other processes check and remove the part; it may not be used any more."""
        self._lock.close()

    def _check(self, facts: dict[str, str]) -> None:
        """Remove what is not as it was sealed; the part is this process's alone meanwhile."""
        known = _read_json(self.path / _FACTS)
        if self.path.exists() and known != facts:
            _remove(self.path)
            self.dropped = (_FACTS,)
        for compiler in COMPILERS:
            (self.path / compiler).mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.path / _SUMS).mkdir(mode=0o700, exist_ok=True)
        if known != facts or self.dropped:
            _write(self.path / _FACTS, facts)
        sealed: dict[str, set[str]] = {}
        for file in (self.path / _SUMS).iterdir():
            for name, value in (_read_json(file) or {}).items():
                sealed.setdefault(name, set()).add(str(value))
        self._verify(sealed)
        for file in (self.path / _SUMS).iterdir():
            if file.name != "all.json":
                file.unlink()
        self._write_sums("all.json")

    def _verify(self, sealed: Mapping[str, set[str]]) -> None:
        dropped: set[str] = set()
        found: set[str] = set()
        for path, name in self._files():
            found.add(name)
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                if name.endswith(_MARKS) and not status.st_size:
                    continue
                if name in sealed and (value := _sum(path)) in sealed[name]:
                    self._sums[name], self._seen[name] = value, (status.st_size, status.st_mtime_ns)
                    continue
            dropped.add(name)
        for name in dropped:
            (self.path / name).unlink(missing_ok=True)
        # An entry of Triton is a folder of files that need each other.
        incomplete = {*dropped, *(sealed.keys() - found)}
        entries = {name.rpartition("/")[0] for name in incomplete if name.startswith("triton/")} - {"triton"}
        for entry in entries:
            shutil.rmtree(self.path / entry, ignore_errors=True)
        for name in [name for name in self._sums if name.rpartition("/")[0] in entries]:
            del self._sums[name], self._seen[name]
        self.dropped += tuple(sorted(name for name in dropped if not _temporary(name)))

    def _files(self) -> Iterator[tuple[Path, str]]:
        """The compilers' files and their names in the part."""
        for compiler in COMPILERS:
            for folder, _, names in os.walk(self.path / compiler):
                for name in names:
                    path = Path(folder, name)
                    yield path, path.relative_to(self.path).as_posix()

    def _write_sums(self, name: str) -> None:
        _write(self.path / _SUMS / name, self._sums)


@dataclass(frozen=True)
class CachedCode:
    """A part of a folder of compiled code, as it is listed."""

    path: Path
    bytes: int
    used: datetime
    """When a process last began to use it."""
    facts: Mapping[str, str]
    """The versions; empty if they cannot be read."""

    @property
    def text(self) -> str:
        """What it is for."""
        named = [f"{name} {self.facts[name]}" for name in ("torch", "device") if name in self.facts]
        return ", ".join(named) or "of unknown origin"

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        used = self.used.isoformat(timespec="seconds")
        return {"folder": str(self.path), "bytes": self.bytes, "used": used, "facts": dict(self.facts)}


def cached_code(root: Path) -> list[CachedCode]:
    """The parts of a folder, the least recently used first; makes nothing."""
    found = [
        CachedCode(
            lock.with_suffix(""),
            _size(lock.with_suffix("")),
            datetime.fromtimestamp(lock.stat().st_mtime, UTC),
            _read_json(lock.with_suffix("") / _FACTS) or {},
        )
        for lock in (root.glob("*.lock") if root.is_dir() else ())
    ]
    return sorted(found, key=lambda one: one.used)


def remove_code(code: CachedCode) -> bool:
    """Remove a part, unless a process uses it; returns whether it is gone.

    Raises:
        OSError: if it cannot be removed.
    """
    root = code.path.parent
    with _locked(root / "lock"), (root / f"{code.path.name}.lock").open("ab") as lock:
        if not _try_lock(lock):
            return False
        _remove(code.path)
        (root / f"{code.path.name}.lock").unlink(missing_ok=True)
    return True


def _remove(part: Path) -> None:
    """The facts first: what is left by a kill is no part any more."""
    (part / _FACTS).unlink(missing_ok=True)
    shutil.rmtree(part) if part.is_dir() and not part.is_symlink() else part.unlink(missing_ok=True)


def _check_owner(root: Path) -> None:
    found = root.stat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(f"{root} holds code that is run, and can be written by other users than this one")


def _passing(name: str, size: int) -> bool:
    """Files without a sum: marks, and what is still being written."""
    return (name.endswith(_MARKS) and not size) or _temporary(name)


def _temporary(name: str) -> bool:
    return ".tmp" in name or "/tmp." in name


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_json(path: Path) -> dict[str, Any] | None:
    """An object; None if there is none, or anything else."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Atomically; after a power failure a part is only worth less."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    temporary.write_text(json.dumps(content), "utf-8")
    temporary.replace(path)


def _size(folder: Path) -> int:
    sizes = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                sizes += os.lstat(os.path.join(place, name)).st_size
            except FileNotFoundError:
                continue
    return sizes


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _try_lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
