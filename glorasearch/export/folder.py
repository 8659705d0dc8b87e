"""A folder of one export beside timm's: what is in it by name and digest, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from glorasearch.bounded import read_json_file
from glorasearch.errors import ExportError, reason
from glorasearch.redact import redact_all
from glorasearch.version import __version__
from glorasearch.weights.atomic import publish_directory, remove_leftovers, temporary_directory, write_synced
from glorasearch.weights.digest import storable

MANIFEST_NAME: Final = "glorasearch.json"
"""What is known of an export, whatever its format; timm's own folder has it in its `config.json`."""
VERSION: Final = 1
"""Of the manifest; a later one is refused."""
Write = Callable[[Path], Mapping[str, Any]]
"""Writes files into an empty folder, and returns what the manifest says of them."""
Check = Callable[[Path], float]
"""Loads what was written; the largest difference of its outputs. Raises `ExportError` if that is too large."""


@dataclass(frozen=True, slots=True)
class ExportFolder:
    """A written export."""

    format: str
    path: Path
    facts: Mapping[str, Any]
    """The manifest without `files`."""
    sha256: Mapping[str, str]
    """File → its SHA-256, hexadecimal; the manifest's own is among them."""
    max_abs_diff: float
    """Largest absolute difference between the outputs of what was written, once loaded, and of the active subnet."""

    @property
    def bytes(self) -> int:
        """Size of all files together."""
        return sum((self.path / name).stat().st_size for name in self.sha256)


def write_folder(path: Path, format: str, write: Write, check: Check) -> ExportFolder:
    """Write an export under a temporary name, check it there, and rename it; an earlier one at `path` is replaced.

    Raises:
        ExportError: if something else is at `path`, a check fails, or the folder cannot be written; what was there is
            untouched then.
    """
    path = path.absolute()
    check_place(path, format)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        with temporary_directory(path) as temporary:
            facts = redact_all(
                {"format": format, "format_version": VERSION, "version": __version__, **write(temporary)}
            )
            for file in temporary.iterdir():
                file.chmod(temporary.stat().st_mode & 0o644)  # PEFT's are for their writer's eyes alone
            files = {file.name: sha256_of(file) for file in sorted(temporary.iterdir())}
            content = json.dumps({**facts, "files": files}, indent=1, allow_nan=False) + "\n"
            write_synced(temporary / MANIFEST_NAME, content.encode())
            sums = files | {MANIFEST_NAME: sha256_of(temporary / MANIFEST_NAME)}
            difference = check(temporary)
            if not publish_directory(temporary, path, replace=path.exists()):
                raise ExportError(f"{path} exists and holds something else: move it away, and export again")
    except (OSError, SafetensorError) as error:
        raise ExportError(
            f"export {path} cannot be written: {reason(error)}; what was there is untouched: make room there, or the "
            "folder writable, and export again"
        ) from error
    return ExportFolder(format, path, facts, sums, difference)


def check_place(path: Path, format: str) -> None:
    """Refuse to write over anything but an export of the same format, or an empty folder.

    Raises:
        ExportError: naming what is there.
    """
    if not path.exists() and not path.is_symlink():
        return
    if path.is_dir() and not path.is_symlink():
        if not any(path.iterdir()):
            return
        found = format_of(path)
        if found == format:
            return
        what = "no export of glorasearch" if found is None else f"an export of the format {found}"
    else:
        what = "no folder"
    raise ExportError(f"{path} exists and is {what}: move it away, or give another export.path, and export again")


def format_of(path: Path) -> str | None:
    """The format of the export in a folder; None if there is none."""
    try:
        found = read_json_file(path / MANIFEST_NAME).get("format")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def read_manifest(path: Path, format: str | None = None) -> dict[str, Any]:
    """The manifest of an export, of one format if that is given.

    Raises:
        ExportError: if there is none, or a later version has written it.
    """
    try:
        found: dict[str, Any] = read_json_file(path / MANIFEST_NAME)
        own, version, _ = found["format"], found["format_version"], found["files"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ExportError(
            f"{path} is not an export{f' of the format {format}' if format else ''}: its {MANIFEST_NAME} cannot be "
            f"read ({reason(error)}); `glorasearch export RUN --format {format or 'FORMAT'}` writes one"
        ) from error
    if format is not None and own != format:
        raise ExportError(f"{path} is an export of the format {own}, not {format}")
    if version != VERSION:
        raise ExportError(f"{path} was written as version {version!r} of its form; this glorasearch reads {VERSION}")
    return found


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file that others may read, too."""
    ready = storable(tensors)
    content = safetensors.torch.save(ready, {"format": "pt", **(metadata or {})})
    write_synced(path, content)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ExportError: if it cannot be read.
    """
    try:
        return safetensors.torch.load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise ExportError(f"{path} cannot be read: {reason(error)}; export it again") from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
