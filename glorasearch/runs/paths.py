"""Relative paths in run files, resolved by one rule."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from glorasearch.bounded import user_path
from glorasearch.data.config import NPZ, OWN_SCHEMES, split_location

SCHEMES = ("local-dir:", *OWN_SCHEMES)
"""What stands before the path in a name of a backbone or a data source."""


def split_scheme(text: str) -> tuple[str, str, str]:
    """(scheme, path, `#` and the task in an archive) of a name; scheme and task are empty if there is none."""
    scheme = next((scheme for scheme in SCHEMES if text.startswith(scheme)), "")
    path = text.removeprefix(scheme)
    if scheme != NPZ:
        return scheme, path, ""
    path, task = split_location(path)
    return scheme, path, f"#{task}" if task else ""


def anchored(data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The content of a run file in `folder`, with its relative paths made absolute.

    The relative path of something to read (a search space, a data set, a checkpoint) is resolved against `folder` if it
    exists there; otherwise it is unchanged, and so relative to the current directory. `export.path`, which is written,
    is always resolved against `folder`. Paths that begin with `~` and names that are not paths are unchanged.
    """
    content = copy.deepcopy(dict(data))
    folder = folder.resolve()

    def read(text: str) -> str:
        scheme, path, task = split_scheme(text)
        there = path and not path.startswith("~") and (folder / path).exists()
        return f"{scheme}{folder / path}{task}" if there else text

    def read_file(text: str) -> str:
        return read(text) if (folder / text).is_file() else text

    def read_scheme(text: str) -> str:
        return read(text) if text.startswith(SCHEMES) else text

    def write(text: str) -> str:
        return text if text.startswith("~") else str(folder / text)

    _change(content, "space", "name", read_file)
    _change(content, "report", "baselines", read_file)
    _change(content, "search", "start", read_file)
    _change(content, "race", "methods", read_file)
    _change(content, "backbone", "name", read_scheme)
    _change(content, "backbone", "checkpoint", read_file)
    _change(content, "data", "source", read_scheme)
    _change(content, "data", "root", read)
    _change(content, "export", "path", write)
    return content


def _change(content: dict[str, Any], section: str, key: str, change: Callable[[str], str]) -> None:
    """Change a string or every string of a list; validation refuses other types later."""
    table = content.get(section)
    if not isinstance(table, dict):
        return
    value = table.get(key)
    if isinstance(value, str):
        table[key] = change(value)
    elif isinstance(value, list):
        table[key] = [change(item) if isinstance(item, str) else item for item in value]


def public_name(text: str) -> str:
    """A name in a run file as others may read it: of a path the last part, since folders are this machine's own.

    `local-dir:/home/me/vit` → `local-dir:vit`, `npz:/data/x.npz#task` → `npz:x.npz#task`; names of timm stay.
    """
    scheme, path, task = split_scheme(text)
    local = scheme or path.startswith(("/", "~", ".")) or path.endswith(".toml")
    return f"{scheme}{user_path(path).name or path}{task}" if local and path else text


def space_label(name: str) -> str:
    """The name in tables of a search space that is given by name or path."""
    return Path(name).stem if name.endswith(".toml") else name
