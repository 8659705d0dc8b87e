"""Removals and renamings that touch database and files: written down first, so that a kill leaves nothing half done.

The database's transaction decides: before it all is as it was, after it the files follow, at the latest when the next
command of the workspace looks. Needs no torch.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from glorasearch.bounded import read_json_file
from glorasearch.db import RunState
from glorasearch.errors import RunError
from glorasearch.runs.workspace import STORE_NAME, Workspace
from glorasearch.weights.atomic import remove_leftovers, replace_file, temporary_beside

_PREFIX: Final = ".unfinished-"
_LEFT_BEHIND: Final = ".glorasearch-tmp-"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Change:
    """What happens to a run's files once the database has forgotten its name."""

    run: str
    created: str
    """When it was: another run may have the name by now."""
    renamed: str | None = None
    """Its new name; None where it is removed."""
    weights: tuple[str, ...] = ()
    """Weight sets of a run that is removed, to be removed unless another run names them."""

    def path(self, workspace: Workspace) -> Path:
        """Where it is written down."""
        return workspace.path / "runs" / f"{_PREFIX}{self.run}.json"

    def write(self, workspace: Workspace) -> None:
        """Write it down, before the database is changed.

        Raises:
            RunError: if that cannot be done; nothing has happened then.
        """

        path = self.path(workspace)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, json.dumps(asdict(self)).encode())
        except OSError as error:
            raise RunError(f"{path.parent} cannot be written: {error.strerror}; nothing was changed") from error

    def finish(self, workspace: Workspace) -> None:
        """Let the files follow the database; as often as needed.

        Raises:
            RunError: if a file cannot be moved; the next command of the workspace tries again.
        """

        folder = workspace.run_folder(self.run)
        try:
            if folder.exists() and not workspace.runs.exists(self.run):
                gone = temporary_beside(folder)
                folder.rename(gone if self.renamed is None else workspace.run_folder(self.renamed))
                shutil.rmtree(gone, ignore_errors=True)
            remove_weights(workspace, self.weights)
            self.path(workspace).unlink(missing_ok=True)
        except OSError as error:
            place = error.filename or folder
            raise RunError(f"{place}: {error.strerror}; give the right to it, and call `glorasearch runs`") from error


def finish_changes(workspace: Workspace) -> None:
    """Finish the removals and renamings whose process was killed; those of live processes are theirs.

    Raises:
        RunError: if a file cannot be moved.
    """
    folder = workspace.path / "runs"
    if not folder.is_dir() or not workspace.has_database:
        return
    for path in sorted(folder.glob(f"{_PREFIX}*.json")):
        try:
            content = read_json_file(path)
            change = Change(**content | {"weights": tuple(content["weights"])})
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RunError(f"{path} cannot be read ({error}): look at it, and remove it") from error
        record = workspace.runs.get(change.run)
        if record is None:
            change.finish(workspace)
        elif record.owner is None or not record.owner.is_alive:
            path.unlink(missing_ok=True)  # the database was not changed
    if any(folder.glob(f"{_LEFT_BEHIND}*")):
        remove_leftovers(folder)


def own_store(workspace: Workspace) -> Path | None:
    """The folder of the weights if this database alone uses it: the workspace's own, with its own database."""
    folder = workspace.path / STORE_NAME
    return folder if workspace.given_database is None and workspace.store_url == str(folder) else None


def named_weights(stages: object) -> set[str]:
    """All digests in results of stages, those of weights among them."""
    return {text for text in _texts(stages) if _DIGEST.fullmatch(text)}


def used_weights(workspace: Workspace, without: Sequence[str] = ()) -> set[str] | None:
    """Digests that runs of the database name, but for some runs; None if a run cannot be read."""
    if workspace.damaged_runs():
        return None
    return named_weights([record.stages for record in workspace.list_runs() if record.name not in without])


def remove_weights(workspace: Workspace, digests: Sequence[str]) -> None:
    """Remove weight sets that no run names, from a store that is the workspace's own; each at once or not at all."""

    store, used = own_store(workspace), used_weights(workspace) if digests else None
    if store is None or used is None:
        return
    for digest in digests:
        if digest not in used and (store / digest).is_dir():
            gone = temporary_beside(store / digest)
            (store / digest).rename(gone)
            shutil.rmtree(gone, ignore_errors=True)


def stray_weights(workspace: Workspace) -> list[str]:
    """Weight sets of the workspace's own store that no run names, such as those of runs that were started over.

    None as long as a run is at work, whose weights are stored before its result is.
    """
    store, used = own_store(workspace), used_weights(workspace)
    if store is None or used is None or not store.is_dir():
        return []
    if any(record.state is RunState.RUNNING for record in workspace.list_runs()):
        return []
    return sorted(one.name for one in store.iterdir() if _DIGEST.fullmatch(one.name) and one.name not in used)


def size_of(path: Path) -> int:
    """Bytes of the files of a folder, 0 if it is not there."""
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir()) if path.is_dir() else 0


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, (dict, list, tuple)):
        for part in content.values() if isinstance(content, dict) else content:
            yield from _texts(part)
