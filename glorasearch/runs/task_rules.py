"""What a run cannot be asked for because of its task, in words, before any work starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from glorasearch.race import OF_CLASSES, Judge, RaceConfig
from glorasearch.runs.report_config import ReportConfig
from glorasearch.search import SearchConfig
from glorasearch.search.objectives import is_quality
from glorasearch.space import CLASS_METRICS, FITNESSES, OF_NUMBERS, Fitness
from glorasearch.statistics import METRICS, Metric
from glorasearch.tasks.kinds import TaskKind, words_of
from glorasearch.training import TrainSection

_FITNESSES: Final[Mapping[TaskKind, tuple[Fitness, ...]]] = {
    "classify": (*FITNESSES, *CLASS_METRICS),
    "multilabel": FITNESSES,
    "regress": OF_NUMBERS,
}
JUDGES: Final[Mapping[TaskKind, tuple[Judge, ...]]] = {
    "classify": ("accuracy", "tempered", *OF_CLASSES),
    "multilabel": ("accuracy", "tempered"),
    "regress": ("squared_error",),
}
"""What may judge a race."""


def metrics_of(task: TaskKind, report: ReportConfig) -> tuple[Metric, ...]:
    """What is measured: all that the task has, unless the report names something else than the default."""
    return words_of(task).metrics if report.metrics == METRICS else report.metrics


def of_task(task: TaskKind, search: SearchConfig, race: RaceConfig) -> tuple[SearchConfig, RaceConfig]:
    """Search and race, with what is not given as the task has it."""
    if task != "regress":
        return search, race
    if "judge" not in race.model_fields_set:
        race = race.model_copy()
        race.__dict__["judge"] = JUDGES[task][0]
    return search.of_numbers(), race


def task_fault(
    task: TaskKind, train: TrainSection, search: SearchConfig, race: RaceConfig, report: ReportConfig
) -> str | None:
    """Why these sections do not fit the task; None if they do."""
    words = words_of(task)
    foreign: list[Any] = [name for name in metrics_of(task, report) if name not in words.metrics]
    if foreign:
        return f"report.metrics has {', '.join(foreign)}; with data.task {task!r} there are {', '.join(words.metrics)}"
    allowed = _FITNESSES[task]
    if search.fitness not in allowed:
        because = words.because or 'squared errors are of numbers (data.task = "regress")'
        return f"search.fitness is {search.fitness!r}, but {because}; take {', '.join(allowed)}"
    foreign = [name for name in search.optimised if is_quality(name) and name not in allowed]
    if foreign:
        return f"search.objectives has {', '.join(foreign)}; with data.task {task!r} there are {', '.join(allowed)}"
    if race.judge not in JUDGES[task]:
        return f"race.judge is {race.judge!r}; with data.task {task!r} take {', '.join(JUDGES[task])}"
    if train.huber_delta and task != "regress":
        return f"train.huber_delta is {train.huber_delta:g}, but Huber's loss is of numbers; leave it out"
    if task == "classify":
        return None
    if report.flips:
        return f"report.flips averages the probabilities of classes, but {words.because}; leave it out"
    if train.balance != "none":
        return f"train.balance is {train.balance!r}, which balances classes, but {words.because}; leave it out"
    if train.label_smoothing and not words.right_or_wrong:
        return f"train.label_smoothing is {train.label_smoothing:g}, but {words.because}; leave it out"
    return None
