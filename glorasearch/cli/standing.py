"""How a run stands, in short: its scores and its age."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from glorasearch.db import RunRecord

WIDTH: Final = 80
"""Columns of texts."""
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"))


def scores(record: RunRecord) -> dict[str, float | None]:
    """Accuracy on the test split, and that of the search's winner on the search split."""
    found: dict[str, float | None] = {}
    for stage in ("test", "search"):
        value: Any = (record.stages.get(stage) or {}).get(f"{stage}_accuracy")
        found[f"{stage}_accuracy"] = value if isinstance(value, float | int) else None
    return found


def age(changed: str | None) -> str:
    """Time since a moment in ISO 8601, in its largest unit."""
    if changed is None:
        return "-"
    seconds = max(0.0, (datetime.now(UTC) - datetime.fromisoformat(changed)).total_seconds())
    for size, name in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"


def wrapped(text: str, indent: str = "") -> str:
    """A text in lines of at most `WIDTH` columns, as far as its words allow; lines of tables stay."""
    return "\n".join(
        textwrap.fill(line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        if len(line) > WIDTH
        else line
        for line in text.splitlines()
    )
