"""What is asked of an image: one class of several, each of several labels, or numbers; all that depends on it, in one
object."""

from typing import TYPE_CHECKING

from glorasearch.lazy import lazy_names
from glorasearch.tasks.kinds import TaskKind

if TYPE_CHECKING:
    from glorasearch.tasks.base import Task
    from glorasearch.tasks.regress import Regress
    from glorasearch.tasks.standard import Standard
    from glorasearch.tasks.table import CLASSIFY, MULTILABEL, task_from, task_of

__all__ = ["CLASSIFY", "MULTILABEL", "Regress", "Standard", "Task", "TaskKind", "task_from", "task_of"]

__getattr__ = lazy_names(
    __name__,
    {
        "base": ("Task",),
        "regress": ("Regress",),
        "standard": ("Standard",),
        "table": ("CLASSIFY", "MULTILABEL", "task_from", "task_of"),
    },
)
