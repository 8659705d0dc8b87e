"""The tasks of a sweep: a run config for each, from one run file with `{task}` in its data source."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from glorasearch.bounded import user_path
from glorasearch.data.sources.read import check_source
from glorasearch.data.sources.vtab import CLASSES, GROUPS, LISTS
from glorasearch.errors import ConfigError, DataError, InputError
from glorasearch.runs.config import RunConfig
from glorasearch.runs.paths import anchored, split_scheme
from glorasearch.tasks.kinds import words_of

PLACEHOLDER: Final = "{task}"
EVERY_VTAB_TASK: Final = "vtab"
_VTAB = "vtab:"


@dataclass(frozen=True)
class SweepTask:
    """One task of a sweep, and the run for it."""

    name: str
    config: RunConfig

    @property
    def group(self) -> str | None:
        """The group of VTAB-1k that the task belongs to; None for other data."""
        if not self.config.data.source.startswith(_VTAB):
            return None
        return next(group for group, tasks in GROUPS.items() if self.name in tasks)


def load_sweep(path: Path, overrides: Sequence[str], wanted: str) -> list[SweepTask]:
    """The tasks of a sweep, each with its run config.

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
    if template.export.path is not None and PLACEHOLDER not in template.export.path:
        raise ConfigError(
            f"{path}: export.path is one place for all tasks; write {PLACEHOLDER} into it, or leave it out"
        )
    overridden = any(override.partition("=")[0].strip() == "data.source" for override in overrides)
    if not words_of(template.data.task).right_or_wrong:
        raise ConfigError(
            f"{path}: data.task is {template.data.task!r}, but a sweep is the mean of accuracies, which numbers do not "
            "have: run each task by itself, and compare the runs"
        )
    tasks: list[SweepTask] = []
    for name in _names(wanted, vtab=pattern.startswith(_VTAB)):
        source = pattern.replace(PLACEHOLDER, name)
        if not overridden:
            source = anchored({"data": {"source": source}}, path.parent)["data"]["source"]
        root, export = (
            None if text is None else text.replace(PLACEHOLDER, name)
            for text in (template.data.root, template.export.path)
        )
        config = template.replace(
            name=f"{template.name}-{name}",
            data=template.data.replace(source=source, root=root),
            export=template.export.replace(path=export),
        )
        tasks.append(SweepTask(name, config))
    _check_there(tasks)
    return tasks


def _pattern(template: RunConfig, path: Path) -> str:
    """The data source with `{task}` in it."""
    source = template.data.source
    if PLACEHOLDER in source:
        return source
    root, _, last = source.rpartition("/")
    if source.startswith(_VTAB) and last in CLASSES:
        return f"{root}/{PLACEHOLDER}"
    raise ConfigError(
        f"{path}: data.source is {source!r}, which has no place for a task's name; write {PLACEHOLDER} where it "
        f"belongs, such as vtab:<root>/{PLACEHOLDER}"
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
    """Refuse missing folders and archives, naming all of them; their content is checked by the runs."""
    missing: list[str] = []
    for task in tasks:
        source = task.config.data.source
        scheme, path, _ = split_scheme(source)
        if not scheme:
            check_source(source, task.config.data.root)
            continue
        folder = user_path(path)
        files = [folder / f"{name}.txt" for name in LISTS] if scheme == _VTAB else []
        absent = [str(path) for path in (folder, *files) if not path.exists()]
        if absent:
            missing.append(f"{task.name} ({absent[0]})")
    if missing:
        raise DataError(
            f"{len(missing)} of {len(tasks)} tasks are not there: {', '.join(missing)}; nothing was started. Leave "
            "them out of --tasks, or put them there"
        )
