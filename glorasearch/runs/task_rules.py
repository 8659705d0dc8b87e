"""What a run cannot be asked for because of its task, in words, before any work starts."""

from __future__ import annotations

from typing import Final

from glorasearch.runs.report_config import ReportConfig
from glorasearch.search import SearchConfig
from glorasearch.space import CLASS_METRICS, FITNESSES
from glorasearch.statistics import METRICS, Metric
from glorasearch.tasks.kinds import TaskKind, words_of
from glorasearch.training import TrainSection

_BECAUSE: Final = 'an image has any number of labels (data.task = "multilabel")'


def metrics_of(task: TaskKind, report: ReportConfig) -> tuple[Metric, ...]:
    """What is measured: all that the task has, unless the report names something else than the default."""
    return words_of(task).metrics if report.metrics == METRICS else report.metrics


def task_fault(task: TaskKind, train: TrainSection, search: SearchConfig, report: ReportConfig) -> str | None:
    """Why these sections do not fit the task; None if they do."""
    known = words_of(task).metrics
    foreign = [name for name in metrics_of(task, report) if name not in known]
    if foreign:
        return f"report.metrics has {', '.join(foreign)}; with data.task {task!r} there are {', '.join(known)}"
    if task == "classify":
        return None
    if search.fitness in CLASS_METRICS:
        return f"search.fitness is {search.fitness!r}, but {_BECAUSE}; take {', '.join(FITNESSES)}"
    if report.flips:
        return f"report.flips averages the probabilities of classes, but {_BECAUSE}; leave it out"
    if train.balance != "none":
        return f"train.balance is {train.balance!r}, which balances classes, but {_BECAUSE}; leave it out"
    return None
