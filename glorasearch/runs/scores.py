"""The accuracies of a run, in short."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glorasearch.db import RunRecord


def scores(record: RunRecord) -> dict[str, float | None]:
    """Accuracy on the test split, and that of the search's winner on the search split."""
    found: dict[str, float | None] = {}
    for stage in ("test", "search"):
        value: Any = (record.stages.get(stage) or {}).get(f"{stage}_accuracy")
        found[f"{stage}_accuracy"] = value if isinstance(value, float | int) else None
    return found
