"""The tasks by their kind."""

from __future__ import annotations

from typing import Final

from glorasearch.tasks.base import Task
from glorasearch.tasks.classify import Classify
from glorasearch.tasks.kinds import TaskKind
from glorasearch.tasks.multilabel import MultiLabel

CLASSIFY: Final = Classify()
MULTILABEL: Final = MultiLabel()
_TASKS: Final[dict[TaskKind, Task]] = {task.kind: task for task in (CLASSIFY, MULTILABEL)}


def task_of(kind: TaskKind) -> Task:
    """The task of a kind."""
    return _TASKS[kind]
