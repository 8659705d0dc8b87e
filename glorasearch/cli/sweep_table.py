"""The result of a sweep as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

MISSING = "-"


def print_sweep(result: Mapping[str, Any]) -> None:
    """Print a row for each task, and below them the means."""
    grouped = bool(result["groups"])
    table = Table(title="Accuracy of the refitted winners on the test split", title_justify="left")
    table.add_column("task")
    if grouped:
        table.add_column("group")
    for column in ("parameters", "search", "test"):
        table.add_column(column, justify="right")

    def add(name: str, group: str, row: Mapping[str, Any], **options: Any) -> None:
        values = (_count(row.get("parameters")), _percent(row.get("search_accuracy")), _percent(row["accuracy"]))
        table.add_row(name, *([group] if grouped else []), *values, **options)

    for row in result["tasks"]:
        add(row["task"], row["group"] or MISSING, row)
    table.add_section()
    for name, mean in result["groups"].items():
        part = "" if mean["tasks"] == mean["of"] else f" ({mean['tasks']} of {mean['of']})"
        add(f"mean of {name}{part}", "", mean)
    if grouped:
        add("mean of the groups' means", "", {"accuracy": result["mean_of_groups"]}, style="bold")
    else:
        add("mean", "", {"accuracy": result["mean"]}, style="bold")
    Console().print(table)


def _percent(share: float | None) -> str:
    return MISSING if share is None else f"{100 * share:.1f} %"


def _count(number: float | None) -> str:
    return MISSING if number is None else f"{number:,.0f}"
