"""Many tasks at once: one run for each, from one run file whose data source has a place for the task's name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from glorasearch.data.sources.read import check_source
from glorasearch.data.sources.vtab import CLASSES, GROUPS, LISTS
from glorasearch.db import Database, RunState, RunStore
from glorasearch.errors import ConfigError, DataError, InputError
from glorasearch.runs.config import RunConfig
from glorasearch.runs.paths import anchored
from glorasearch.runs.progress import Progress
from glorasearch.runs.records import recognise
from glorasearch.runs.sweep_task import TaskAnswer, TaskOrder, perform
from glorasearch.runs.workspace import Workspace

WORK: Final = "glorasearch.runs.sweep_task:perform_in_worker"
"""What a worker calls with a task's order."""
PLACE: Final = "{task}"
EVERY_VTAB_TASK: Final = "vtab"
_VTAB, _FOLDER = "vtab:", "folder:"

Performer = Callable[[Mapping[str, TaskOrder]], Iterator[tuple[str, TaskAnswer]]]
"""Performs the orders of tasks by name, and gives each answer as it comes."""


@dataclass(frozen=True)
class SweepTask:
    """One task of a sweep, and the run for it."""

    name: str
    run_file: RunConfig

    @property
    def group(self) -> str | None:
        """The group of VTAB-1k that the task belongs to; None for other data."""
        if not self.run_file.data.source.startswith(_VTAB):
            return None
        return next(group for group, tasks in GROUPS.items() if self.name in tasks)


def load_sweep(path: Path, overrides: Sequence[str], wanted: str) -> list[SweepTask]:
    """The tasks of a sweep, each with the run file that it gets.

    `{task}` in `data.source`, `data.root` and `export.path` becomes the task's name, and `-<task>` is appended to the
    run's name. `vtab:<root>/<any task of VTAB-1k>` counts as `vtab:<root>/{task}`.

    Args:
        path: the run file.
        overrides: as `RunConfig.load`.
        wanted: names separated by commas; for VTAB-1k also `vtab` (all 19) and its groups' names.

    Raises:
        ConfigError: if the run file has no place for the task's name, or the runs would write to one place.
        InputError: if a task has no name, or VTAB-1k does not have it.
        DataError: if folders of tasks are not there.
    """
    template = RunConfig.load(path, overrides)
    pattern = _pattern(template, path)
    if template.export.path is not None and PLACE not in template.export.path:
        raise ConfigError(f"{path}: export.path is one place for all tasks; write {PLACE} into it, or leave it out")
    given = any(override.partition("=")[0].strip() == "data.source" for override in overrides)
    tasks: list[SweepTask] = []
    for name in _names(wanted, vtab=pattern.startswith(_VTAB)):
        source = pattern.replace(PLACE, name)
        if not given:
            source = anchored({"data": {"source": source}}, path.parent)["data"]["source"]
        content = template.model_dump(mode="json") | {"name": f"{template.name}-{name}"}
        content["data"]["source"] = source
        for section, key in (("data", "root"), ("export", "path")):
            if content[section][key] is not None:
                content[section][key] = content[section][key].replace(PLACE, name)
        tasks.append(SweepTask(name, RunConfig.from_dict(content, source=f"{path} for task {name}")))
    _check_there(tasks)
    return tasks


def sweep(
    tasks: Sequence[SweepTask],
    workspace: Workspace,
    database: Database,
    *,
    progress: Progress,
    performer: Performer,
    fresh: bool = False,
) -> dict[str, TaskAnswer]:
    """Run every task that has not finished; a task that fails does not stop the others.

    Args:
        tasks: of `load_sweep`.
        workspace: where their runs are.
        database: of the workspace.
        progress: what is told as it happens.
        performer: where the tasks are worked on.
        fresh: forget what runs of these names have done.

    Returns:
        Name → report or error, in the order of the tasks.

    Raises:
        ConfigError: if a run of one of these names was asked for something else.
        WeightStoreError: if the weight store cannot be written.
    """
    answers: dict[str, TaskAnswer] = {}
    runs = RunStore(database)
    for task in [] if fresh else tasks:
        known = recognise(runs, task.run_file)
        if known is not None and known.state == RunState.FINISHED and "report" in known.stages:
            answers[task.name] = TaskAnswer(report=known.stages["report"])
    orders = {
        task.name: TaskOrder(
            run_file=task.run_file.model_dump(mode="json"),
            workspace=str(workspace.path),
            database=workspace.database_url,
            store=workspace.store_url,
            fresh=fresh,
        )
        for task in tasks
        if task.name not in answers
    }
    if answers:
        progress.say(f"finished before: {', '.join(answers)}")
    if orders:
        _check_store(workspace)
        for name, answer in performer(orders):
            answers[name] = answer
            done = f"{len(answers)} of {len(tasks)}"
            progress.say(f"task {name} ({done}): {answer.error or _accuracy(answer)}")
    return {task.name: answers[task.name] for task in tasks}


def one_after_the_other(progress: Progress) -> Performer:
    """Performs the tasks in this process."""

    def performer(orders: Mapping[str, TaskOrder]) -> Iterator[tuple[str, TaskAnswer]]:
        for name, order in orders.items():
            progress.say(f"task {name}: run {order.run_file['name']}")
            yield name, perform(order, progress)

    return performer


def on_ray(progress: Progress, *, address: str | None, parallel: int | None, cpus: float, gpus: float) -> Performer:
    """Performs the tasks on the nodes of a Ray cluster; the numbers are those of `workers.sweep.perform_all`."""

    def performer(orders: Mapping[str, TaskOrder]) -> Iterator[tuple[str, TaskAnswer]]:
        try:
            from workers.actor import Crash
            from workers.sweep import perform_all
        except ImportError as error:
            raise InputError(
                f"--executor ray cannot be loaded ({error}); install it by pip install 'glorasearch[ray]'"
            ) from error
        told = {name: replace(order, shared=True).to_json() for name, order in orders.items()}
        for name, answer in perform_all(
            WORK,
            told,
            address=address,
            parallel=parallel,
            cpus=cpus,
            gpus=gpus,
            # Begun again, a fresh run would forget what the lost process has done; without --fresh it goes on.
            **({"retries": 0} if any(order.fresh for order in orders.values()) else {}),
            on_start=lambda name: progress.say(f"task {name}: run {orders[name].run_file['name']} goes to Ray"),
        ):
            yield name, TaskAnswer(error=answer.summary) if isinstance(answer, Crash) else TaskAnswer(**answer)

    return performer


def _check_store(workspace: Workspace) -> None:
    from glorasearch.weights import WeightStore

    WeightStore(workspace.store_url).check()


def _accuracy(answer: TaskAnswer) -> str:
    return f"{100 * answer.accuracy:.1f} % on the test split"


def _pattern(template: RunConfig, path: Path) -> str:
    """The data source with a place for the task's name."""
    source = template.data.source
    if PLACE in source:
        return source
    root, _, last = source.rpartition("/")
    if source.startswith(_VTAB) and last in CLASSES:
        return f"{root}/{PLACE}"
    raise ConfigError(
        f"{path}: data.source is {source!r}, which has no place for a task's name; write {PLACE} where it belongs, "
        f"such as vtab:<root>/{PLACE}"
    )


def _names(wanted: str, *, vtab: bool) -> list[str]:
    names = [name.strip() for name in wanted.split(",")]
    if not all(names):
        raise InputError(f"--tasks {wanted!r}: expected names separated by commas, such as cifar,dtd")
    if not vtab:
        return list(dict.fromkeys(names))
    groups: dict[str, Iterable[str]] = {EVERY_VTAB_TASK: CLASSES, **GROUPS}
    found = list(dict.fromkeys(task for name in names for task in groups.get(name, [name])))
    unknown = [name for name in found if name not in CLASSES]
    if unknown:
        raise InputError(
            f"--tasks: VTAB-1k has no {', '.join(map(repr, unknown))}; its tasks are {', '.join(CLASSES)}; "
            f"{', '.join(GROUPS)} and {EVERY_VTAB_TASK} stand for several"
        )
    return found


def _check_there(tasks: Sequence[SweepTask]) -> None:
    """Refuse tasks whose folders are not there, all at once; what is in them is for the runs to check."""
    missing: list[str] = []
    for task in tasks:
        source = task.run_file.data.source
        scheme = next((scheme for scheme in (_VTAB, _FOLDER) if source.startswith(scheme)), None)
        if scheme is None:
            check_source(source, task.run_file.data.root)
            continue
        folder = Path(source.removeprefix(scheme)).expanduser()
        files = [folder / f"{name}.txt" for name in LISTS] if scheme == _VTAB else []
        absent = [str(path) for path in (folder, *files) if not path.exists()]
        if absent:
            missing.append(f"{task.name} ({absent[0]})")
    if missing:
        raise DataError(
            f"{len(missing)} of {len(tasks)} tasks are not there: {', '.join(missing)}; nothing was started. Leave "
            "them out of --tasks, or put them there"
        )
