"""Removing runs, and renaming them: what belongs to a run, and who needs it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from glorasearch.code_cache import CachedCode, cached_code
from glorasearch.db import RunRecord, RunState
from glorasearch.db.tidying import RunTidier
from glorasearch.errors import InputError, RunLockedError
from glorasearch.runs.config import MOST_NAME, NAME_PATTERN
from glorasearch.runs.files import write_report
from glorasearch.runs.results import Results
from glorasearch.runs.unfinished import Change, finish_changes, own_store, size_of, used_weights
from glorasearch.runs.workspace import Workspace


@dataclass(frozen=True)
class Removal:
    """What goes with a run, and what stays."""

    run: str
    state: str
    folder: Path
    """Removed: checkpoints, export, report."""
    bytes: int
    """Of the folder and of the weights that are removed."""
    weights: tuple[str, ...]
    """Digests of the weight sets that are removed, as no other run names them."""
    shared: int
    """Weight sets that stay, as other runs name them, or the store is not the workspace's own."""
    export: str | None
    """The exported model, where it lies outside of the folder: it stays."""
    created: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {name: getattr(self, name) for name in ("run", "state", "bytes", "shared", "export")} | {
            "folder": str(self.folder),
            "weights": list(self.weights),
        }


def removals(workspace: Workspace, names: Sequence[str]) -> list[Removal]:
    """What removing these runs, all together, removes.

    Raises:
        RunNotFoundError: naming those that there are not.
        RunLockedError: if a process works on one.
        InputError: if another run needs one.
    """
    finish_changes(workspace)
    damaged = workspace.damaged_runs()
    records = {record.name: record for record in workspace.require_runs([one for one in names if one not in damaged])}
    for record in records.values():
        check_idle(record)
        others = [name for name in dependents(workspace, record.name) if name not in names]
        if others:
            raise InputError(
                f"run {record.name!r} is needed by {', '.join(map(repr, others))}, which has not finished or takes "
                "points from it; remove that too, or first"
            )
    used, store = used_weights(workspace, names), own_store(workspace)
    return [_removal(workspace, name, records.get(name), used, store) for name in dict.fromkeys(names)]


def check_idle(record: RunRecord) -> None:
    """Refuse a run that a process works on.

    Raises:
        RunLockedError: naming the process.
    """
    if record.state is RunState.RUNNING and record.owner is not None:
        raise RunLockedError(f"run {record.name!r} is being worked on by {record.owner}; wait for it or stop it")


def dependents(workspace: Workspace, name: str) -> list[str]:
    """The runs that read what another one holds: its points, and those that train it longer until they have."""

    def needs(record: RunRecord) -> bool:
        point, longer = ((record.config.get(section) or {}).get("run") for section in ("point", "longer"))
        return point == name or (longer == name and "train" not in record.stages)

    return [record.name for record in workspace.list_runs() if needs(record)]


def remove(workspace: Workspace, removal: Removal) -> None:
    """Remove a run: database, folder, and weights that no other run names; nothing of it is left half.

    Raises:
        RunLockedError: if a process works on it by now.
        RunError: if a file cannot be removed; the run is gone all the same, and the next command tries again.
    """
    change = Change(removal.run, removal.created, weights=removal.weights)
    with workspace.runs.lock(removal.run):
        change.write(workspace)
        RunTidier(workspace.database).delete(removal.run)
    change.finish(workspace)


def prunable(workspace: Workspace, days: float) -> tuple[list[Removal], dict[str, str]]:
    """Runs that did not finish and that nothing has changed for so long, and name -> why one of them is kept."""
    finish_changes(workspace)
    before = datetime.now(UTC) - timedelta(days=days)
    open_runs = [record for record in workspace.list_runs() if record.state is not RunState.FINISHED]
    old, kept = [], {}
    for record in open_runs:
        if record.state is RunState.RUNNING:
            kept[record.name] = f"is being worked on by {record.owner}"
        elif record.updated > before:
            kept[record.name] = f"has changed in the last {days:g} days"
        else:
            old.append(record.name)
    while needed := {name: [one for one in dependents(workspace, name) if one not in old] for name in old}:
        blocked = {name: others for name, others in needed.items() if others}
        if not blocked:
            break
        kept |= {name: f"is needed by {', '.join(map(repr, others))}" for name, others in blocked.items()}
        old = [name for name in old if name not in blocked]
    return removals(workspace, old), kept


def old_code(workspace: Workspace, days: float) -> list[CachedCode]:
    """Compiled code that no process has begun to use for so long, by versions."""
    before = datetime.now(UTC) - timedelta(days=days)
    folder = workspace.code_cache
    return [] if folder is None else [one for one in cached_code(folder) if one.used <= before]


def rename(workspace: Workspace, old: str, new: str) -> None:
    """Give a run another name: in the database, and of its folder.

    Weights and the card of an exported model, which never change, keep the name under which they were made.

    Raises:
        InputError: if the new name cannot be used or is in use, or another run needs this one by its name.
        RunNotFoundError: if there is no such run.
        RunLockedError: if a process works on it.
    """
    if len(new) > MOST_NAME or not re.fullmatch(NAME_PATTERN, new):
        raise InputError(
            f"name {new!r}: a run's name has at most {MOST_NAME} letters, digits, dots, hyphens and underscores, and "
            "begins with a letter or digit"
        )
    finish_changes(workspace)
    (record,) = workspace.require_runs([old])
    check_idle(record)
    others = dependents(workspace, old)
    if others:
        raise InputError(
            f"run {old!r} cannot be renamed: {', '.join(map(repr, others))} has that name in its configuration; remove "
            "that first"
        )
    before, after = workspace.run_folder(old), workspace.run_folder(new)
    if workspace.runs.exists(new) or after.exists():
        raise InputError(f"there is a run {new!r} in {workspace.path} already; choose another name")
    stages = {stage: _moved(result, str(before), str(after)) for stage, result in record.stages.items()}
    change = Change(old, record.created.isoformat(), renamed=new)
    with workspace.runs.lock(old):
        change.write(workspace)
        RunTidier(workspace.database).rename(old, new, {**record.config, "name": new}, stages)
    change.finish(workspace)
    report = Results(stages, new).report
    if report is not None and after.is_dir():
        write_report(report, after / "report.json")


def _removal(
    workspace: Workspace, name: str, record: RunRecord | None, used: set[str] | None, store: Path | None
) -> Removal:
    """What goes with a run; of one that cannot be read (None) its weights are not known, and stay."""
    folder = workspace.run_folder(name)
    stages: Mapping[str, Any] = {} if record is None else record.stages
    trained = {str(result["weights"]) for result in stages.values() if isinstance(result.get("weights"), str)}
    own = tuple(sorted(trained - used)) if store is not None and used is not None else ()
    exported = str((stages.get("export") or {}).get("path", folder))
    return Removal(
        run=name,
        state="damaged" if record is None else record.state.value,
        folder=folder,
        bytes=size_of(folder) + sum(size_of(store / digest) for digest in own if store is not None),
        weights=own,
        shared=len(trained) - len(own),
        export=None if Path(exported).is_relative_to(folder) else exported,
        created="" if record is None else record.created.isoformat(),
    )


def _moved(content: Any, before: str, after: str) -> Any:
    """A result with the paths of a folder that has another name."""
    if isinstance(content, dict):
        return {key: _moved(value, before, after) for key, value in content.items()}
    if isinstance(content, list):
        return [_moved(value, before, after) for value in content]
    if isinstance(content, str) and (content == before or content.startswith(f"{before}/")):
        return after + content.removeprefix(before)
    return content
