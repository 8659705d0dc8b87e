"""How a run stands, in short: its age, and texts of a terminal's width."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime
from typing import Final

WIDTH: Final = 80
"""Columns of texts."""
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"))


def age(changed: str | None) -> str:
    """Time since a moment in ISO 8601, in its largest unit."""
    if changed is None:
        return "-"
    seconds = max(0.0, (datetime.now(UTC) - datetime.fromisoformat(changed)).total_seconds())
    for size, name in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"


def wrapped(text: str, indent: str = "", width: int = WIDTH) -> str:
    """A text in lines of at most so many columns, as far as its words allow; tables have to be no wider."""
    return "\n".join(
        textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        if len(line) > width
        else line
        for line in text.splitlines()
    )
