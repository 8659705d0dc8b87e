"""The accuracies of a run, or its errors, in short."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glorasearch.db import RunRecord


def scores(record: RunRecord) -> dict[str, float | None]:
    """Accuracy on the test split, and that of the search's winner on the search split; of numbers also their errors."""
    found: dict[str, float | None] = {}
    for stage in ("test", "search"):
        value: Any = (record.stages.get(stage) or {}).get(f"{stage}_accuracy")
        found[f"{stage}_accuracy"] = value if isinstance(value, float | int) else None
    for stage, name in (("test", "test_error"), ("search", "search_fitness")):
        value = (record.stages.get(stage) or {}).get(name)
        if found[f"{stage}_accuracy"] is None and isinstance(value, float | int):
            found[f"{stage}_error"] = value
    return found
