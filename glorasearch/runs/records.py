"""What the database knows of a run: recognised, refused when it was asked for something else, forgotten on request.

None of this needs torch, so a finished or a refused run answers at once.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glorasearch.db import Database, RunRecord, RunStore, TrialStorage
from glorasearch.errors import ConfigError, InputError, RunError
from glorasearch.runs.config import RunConfig, without_labels
from glorasearch.runs.workspace import Workspace


def recognise(runs: RunStore, run_file: RunConfig) -> RunRecord | None:
    """The run of that name, if there is one.

    Raises:
        ConfigError: if it was asked for something else; the message says what differs.
    """
    known = runs.get(run_file.name)
    if known is None or known.digest == run_file.digest():
        return known
    found = differences(without_labels(known.config), without_labels(run_file.configuration()))
    raise ConfigError(
        f"run {run_file.name!r} was started with another configuration "
        f"({', '.join(found) or 'defaults that changed with the version'}); "
        "give this one another name by --set name=<name>, or start over by --fresh"
    )


def open_run(runs: RunStore, run_file: RunConfig) -> None:
    """Make the run in the database, or check that the one of that name was asked for the same."""
    if recognise(runs, run_file) is None:
        runs.create(run_file.name, run_file.configuration(), run_file.digest())


def finished_result(
    runs: RunStore, run_file: RunConfig, workspace: Workspace, only: str | None = None
) -> Mapping[str, Any] | None:
    """The report of a run (or the result of one stage) that is finished and whose files are still there.

    Stages that end in weights are never answered here: whether these are still there is for the weight store to say.

    Raises:
        ConfigError: as `recognise`.
    """
    known = recognise(runs, run_file)
    if known is None:
        return None
    needed = ("export", "report") if only is None else (only,)
    if any(name not in known.stages or not is_intact(name, known.stages, run_file, workspace) for name in needed):
        return None
    result = known.stages[needed[-1]]
    return None if only is not None and "weights" in result else result


def is_intact(stage: str, stages: Mapping[str, Mapping[str, Any]], run_file: RunConfig, workspace: Workspace) -> bool:
    """Whether the files of a finished stage are where the run file wants them; weights are not looked at."""
    if stage == "export":
        result, wanted = stages[stage], export_path(run_file, workspace)
        # A model that was exported before the test split was read lacks its result in the model card.
        complete = result.get("tested", False) or "test" not in stages
        return complete and result["path"] == str(wanted) and is_export(wanted)
    if stage == "report":
        return report_path(run_file.name, workspace).is_file()
    return True


def forget_run(name: str, workspace: Workspace, database: Database) -> None:
    """Remove what a run of this name left behind: records, study, folder; weights stay in the weight store.

    Raises:
        RunLockedError: if a live process owns the run.
    """
    runs = RunStore(database)
    if runs.get(name) is not None:
        with runs.lock(name):
            runs.delete(name)  # first, so that a kill between these steps leaves no run that says it is finished
    storage = TrialStorage(database)
    for study in storage.get_all_studies():
        if study.study_name == name:
            with storage.lock_study(name):
                storage.delete_study(study._study_id)
    folder = workspace.run_folder(name)
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise RunError(f"{folder} cannot be removed: {error}; remove it by hand") from error


def report_path(name: str, workspace: Workspace) -> Path:
    """Where the report of a run is."""
    return workspace.run_folder(name) / "report.json"


def export_path(run_file: RunConfig, workspace: Workspace) -> Path:
    """Where the merged model goes."""
    wanted = run_file.export.path
    return Path(wanted).expanduser().resolve() if wanted else workspace.run_folder(run_file.name) / "export"


def is_export(path: Path) -> bool:
    """Whether a directory is an exported model."""
    try:
        return "glorasearch" in json.loads((path / "config.json").read_text("utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def check_export_path(path: Path) -> None:
    """Refuse to put the export in the place of anything but an earlier export or an empty directory.

    Raises:
        InputError: naming the path.
    """
    if not path.exists() or is_export(path) or (path.is_dir() and not any(path.iterdir())):
        return
    raise InputError(f"export.path: {path} exists and is not an exported model; give a directory that is not there yet")


def _said(value: Any) -> str:
    return "not set" if value is None else repr(value)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Keys whose values differ, each with both values."""
    found: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key}: {_said(before)} then, {_said(after)} now")
    return found
