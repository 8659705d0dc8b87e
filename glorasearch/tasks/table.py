"""The tasks by their kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from glorasearch.tasks.base import Task
from glorasearch.tasks.classify import Classify
from glorasearch.tasks.kinds import TaskKind
from glorasearch.tasks.multilabel import MultiLabel
from glorasearch.tasks.regress import Regress

CLASSIFY: Final = Classify()
MULTILABEL: Final = MultiLabel()
_TASKS: Final[dict[TaskKind, Task]] = {task.kind: task for task in (CLASSIFY, MULTILABEL, Regress())}


def task_of(kind: TaskKind) -> Task:
    """The task of a kind; one that is fitted to training images (`Task.fitted`) is so by none yet."""
    return _TASKS[kind]


def task_from(facts: Mapping[str, Any]) -> Task:
    """The task whose `facts` these are."""
    return Regress.from_facts(facts) if facts["task"] == Regress.kind else task_of(facts["task"])
