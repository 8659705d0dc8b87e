"""Text and tables of Optuna's notes, which are Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

NOTE_TEXT: Final = "note_str:"
"""The last part of the names under which Optuna keeps a note, before the number of its piece."""
_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]()<>#+!|~&-])")


def plain(text: str) -> str:
    """Text as Markdown that has no meaning of its own."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def table(head: tuple[str, str], rows: Mapping[str, str]) -> str:
    """A table of two columns; its cells are Markdown already."""
    lines = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return f"| {head[0]} | {head[1]} |\n|---|---|\n{lines}"


def above(note: str, attrs: Mapping[str, Any], prefix: str) -> str:
    """A note with the one that somebody has written, whose pieces have names with this prefix, below it."""
    theirs = [attrs[key] for key in sorted((key for key in attrs if key.startswith(prefix)), key=_place)]
    return "\n\n---\n\n".join(filter(None, [note, "".join(theirs)]))


def _place(key: str) -> int:
    last = key.rpartition(":")[2]
    return int(last) if last.isdecimal() else 0
