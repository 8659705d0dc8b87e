"""A run for each of many tasks, here or on a Ray cluster, and the means that VTAB-1k reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any, Final

from glorasearch.data.sources.vtab import GROUPS
from glorasearch.db import RunState
from glorasearch.runs.progress import Progress
from glorasearch.runs.resources import load_from_workers
from glorasearch.runs.results import Results
from glorasearch.runs.stored_run import StoredRun
from glorasearch.runs.sweep_tasks import SweepTask
from glorasearch.runs.sweep_worker import TaskOutcome, TaskSpec, run_task
from glorasearch.runs.workspace import NO_CODE, Workspace

RUN_TASK: Final = "glorasearch.runs.sweep_worker:run_task_json"
"""Called by workers with the spec of a task."""

TaskRunner = Callable[[Mapping[str, TaskSpec]], Iterator[tuple[str, TaskOutcome]]]
"""Runs tasks, given by name, and yields each outcome as it comes."""


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    """The result of one task; numbers are None if it failed."""

    task: str
    group: str | None
    run: str
    parameters: int | None
    search_accuracy: float | None
    test_accuracy: float | None
    error: str | None

    @classmethod
    def of(cls, task: SweepTask, outcome: TaskOutcome) -> TaskRow:
        """The row of a task."""
        winner = None if outcome.report is None else outcome.report.winner
        return cls(
            task=task.name,
            group=task.group,
            run=task.config.name,
            parameters=None if winner is None else winner.parameters,
            search_accuracy=None if winner is None else winner.search_accuracy,
            test_accuracy=None if winner is None else winner.test_accuracy,
            error=outcome.error,
        )


@dataclass(frozen=True, kw_only=True)
class GroupMean:
    """The means over a group of tasks; None if one of them failed."""

    tasks: int
    of: int
    """Number of tasks of the group in VTAB-1k."""
    parameters: float | None
    test_accuracy: float | None

    @classmethod
    def over(cls, rows: Sequence[TaskRow], of: int) -> GroupMean:
        """The means over these rows."""
        parameters = [row.parameters for row in rows if row.parameters is not None]
        accuracies = [row.test_accuracy for row in rows if row.test_accuracy is not None]
        whole = bool(rows) and len(accuracies) == len(rows)
        return cls(
            tasks=len(rows),
            of=of,
            parameters=fmean(parameters) if whole else None,
            test_accuracy=fmean(accuracies) if whole else None,
        )


@dataclass(frozen=True)
class SweepResult:
    """The result of a sweep: a row for each task, and the means."""

    tasks: tuple[TaskRow, ...]

    @property
    def groups(self) -> dict[str, GroupMean]:
        """The means of the groups of VTAB-1k that have tasks here."""
        rows = {name: [row for row in self.tasks if row.group == name] for name in GROUPS}
        return {name: GroupMean.over(found, len(GROUPS[name])) for name, found in rows.items() if found}

    @property
    def mean(self) -> float | None:
        """Mean test accuracy over all tasks."""
        return GroupMean.over(self.tasks, len(self.tasks)).test_accuracy

    @property
    def mean_of_groups(self) -> float | None:
        """Mean of the groups' mean test accuracies."""
        means = [group.test_accuracy for group in self.groups.values()]
        known = [mean for mean in means if mean is not None]
        return fmean(known) if known and len(known) == len(means) else None

    @property
    def failed(self) -> list[str]:
        """The names of the tasks that failed."""
        return [row.task for row in self.tasks if row.error is not None]

    def to_json(self) -> dict[str, Any]:
        """As a dictionary of JSON values."""
        return {
            "tasks": [asdict(row) for row in self.tasks],
            "groups": {name: asdict(mean) for name, mean in self.groups.items()},
            "mean": self.mean,
            "mean_of_groups": self.mean_of_groups,
            "failed": self.failed,
        }


def sweep(
    tasks: Sequence[SweepTask], workspace: Workspace, *, progress: Progress, runner: TaskRunner, fresh: bool = False
) -> SweepResult:
    """Run every task that has not finished; a task that fails does not stop the others.

    Args:
        tasks: of `load_sweep`.
        workspace: of their runs.
        progress: shows the progress of the sweep.
        runner: runs the tasks.
        fresh: forget earlier runs of these names.

    Raises:
        ConfigError: if a run of one of these names has another configuration.
        WeightStoreError: if the weight store cannot be written.
    """
    outcomes = {} if fresh else _finished(tasks, workspace)
    if outcomes:
        progress.say(f"finished before: {', '.join(outcomes)}")
    specs = {
        task.name: TaskSpec(
            config=task.config.to_dict(),
            workspace=str(workspace.path),
            database=workspace.given_database,
            store=workspace.store_url,
            code_cache=NO_CODE if workspace.code_cache is None else str(workspace.code_cache),
            fresh=fresh,
        )
        for task in tasks
        if task.name not in outcomes
    }
    if specs:
        workspace.store.check()
        for name, outcome in runner(specs):
            outcomes[name] = outcome
            progress.say(f"task {name} ({len(outcomes)} of {len(tasks)}): {_brief(outcome)}")
    return SweepResult(tuple(TaskRow.of(task, outcomes[task.name]) for task in tasks))


def run_here(progress: Progress) -> TaskRunner:
    """Runs the tasks one after the other in this process."""

    def runner(specs: Mapping[str, TaskSpec]) -> Iterator[tuple[str, TaskOutcome]]:
        for name, spec in specs.items():
            progress.say(f"task {name}: run {spec.config['name']}")
            yield name, run_task(spec, progress)

    return runner


def run_on_ray(
    progress: Progress, *, address: str | None, parallel: int | None, cpus: float, gpus: float
) -> TaskRunner:
    """Runs the tasks on a Ray cluster; for the numbers see `workers.tasks.run_tasks`."""

    def runner(specs: Mapping[str, TaskSpec]) -> Iterator[tuple[str, TaskOutcome]]:
        crash: type[Any] = load_from_workers("workers.actor:Crash")
        run_tasks = load_from_workers("workers.tasks:run_tasks")
        for name, answer in run_tasks(
            RUN_TASK,
            {name: replace(spec, share_backbone=True).to_json() for name, spec in specs.items()},
            address=address,
            parallel=parallel,
            cpus=cpus,
            gpus=gpus,
            # A fresh run that is retried would forget what the lost process has done; without --fresh it resumes.
            **({"retries": 0} if any(spec.fresh for spec in specs.values()) else {}),
            on_start=lambda name: progress.say(f"task {name}: run {specs[name].config['name']} goes to Ray"),
        ):
            yield (
                name,
                TaskOutcome(error=answer.summary) if isinstance(answer, crash) else TaskOutcome.from_json(answer),
            )

    return runner


def _finished(tasks: Sequence[SweepTask], workspace: Workspace) -> dict[str, TaskOutcome]:
    """The outcomes of the tasks whose runs have finished."""
    found: dict[str, TaskOutcome] = {}
    for task in tasks:
        record = StoredRun(task.config, workspace).find()
        report = (
            None if record is None or record.state != RunState.FINISHED else Results(record.stages, record.name).report
        )
        if report is not None:
            found[task.name] = TaskOutcome(report=report)
    return found


def _brief(outcome: TaskOutcome) -> str:
    if outcome.report is None:
        return str(outcome.error)
    winner = outcome.report.winner
    if winner.test_accuracy is None:
        return f"mean squared error {winner.test_error:.3f} on the test split"
    return f"{100 * winner.test_accuracy:.1f} % on the test split"
