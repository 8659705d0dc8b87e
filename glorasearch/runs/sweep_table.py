"""The result of a sweep: a row for each task, and the means as VTAB-1k reports them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from glorasearch.data.sources.vtab import GROUPS
from glorasearch.runs.sweep import SweepTask
from glorasearch.runs.sweep_task import TaskAnswer


def sweep_result(tasks: Sequence[SweepTask], answers: Mapping[str, TaskAnswer]) -> dict[str, Any]:
    """Everything that a sweep found, as JSON.

    Returns:
        `tasks` (rows: `task`, `group`, `run`, `parameters`, `search_accuracy`, `accuracy` of the refitted winner on the
        test split, `error`), `groups` (name → `tasks`, `of`, and the means `parameters` and `accuracy`), `mean` (over
        all tasks), `mean_of_groups`, and `failed` (names). A mean over tasks of which one failed is None.
    """
    rows = [_row(task, answers[task.name]) for task in tasks]
    groups = {name: _mean([row for row in rows if row["group"] == name], len(GROUPS[name])) for name in GROUPS}
    groups = {name: mean for name, mean in groups.items() if mean["tasks"]}
    of_groups = [mean["accuracy"] for mean in groups.values()]
    return {
        "tasks": rows,
        "groups": groups,
        "mean": _mean(rows, len(rows))["accuracy"],
        "mean_of_groups": None if not of_groups or None in of_groups else fmean(of_groups),
        "failed": [row["task"] for row in rows if row["error"] is not None],
    }


def _row(task: SweepTask, answer: TaskAnswer) -> dict[str, Any]:
    winner = {} if answer.report is None else answer.report["winner"]
    return {
        "task": task.name,
        "group": task.group,
        "run": task.run_file.name,
        "parameters": winner.get("parameters"),
        "search_accuracy": winner.get("search_accuracy"),
        "accuracy": None if answer.report is None else answer.accuracy,
        "error": answer.error,
    }


def _mean(rows: Sequence[Mapping[str, Any]], of: int) -> dict[str, Any]:
    whole = rows and all(row["error"] is None for row in rows)
    return {
        "tasks": len(rows),
        "of": of,
        "parameters": fmean(row["parameters"] for row in rows) if whole else None,
        "accuracy": fmean(row["accuracy"] for row in rows) if whole else None,
    }
