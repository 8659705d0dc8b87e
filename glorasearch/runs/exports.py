"""Where an exported model is, for whoever names it by its run or by its folder."""

from __future__ import annotations

from pathlib import Path

from glorasearch.bounded import user_path
from glorasearch.errors import ExportError, InputError
from glorasearch.runs.files import RunFiles, format_of, is_export
from glorasearch.runs.intact import export_damage
from glorasearch.runs.results import Results
from glorasearch.runs.workspace import Workspace


def find_export(workspace: Workspace, given: str) -> Path:
    """The folder of an exported model: the one that is given, or that of the run of this name.

    Raises:
        RunNotFoundError: if it is neither.
        InputError: if the run has not been exported yet, or the folder is no export.
        ExportError: if the run's export is not what the run wrote.
    """
    folder = user_path(given)
    if is_export(folder):
        return folder
    format = format_of(folder)
    if format is not None:
        raise InputError(
            f"{given} is an export as {format}; images are classified with timm's, the folder `export` beside it, or "
            "by the run's name"
        )
    if folder.is_dir() and given not in {record.name for record in workspace.list_runs()}:
        raise InputError(
            f"{given} is a folder without an exported model (no config.json of glorasearch), and no run of "
            f"{workspace.path} is called so; give the run's name, or the folder `export` in the run's own"
        )
    (record,) = workspace.require_runs([given])
    exported = Results(record.stages, record.name).export
    if exported is None:
        raise InputError(f"run {given!r} has exported no model yet: finish it with `glorasearch run RUN_FILE`")
    own = RunFiles.of(workspace.run_folder(given), None).export  # first: the workspace may have been moved
    damages = {place: export_damage(exported, place) for place in (own, Path(exported.path))}
    for place, damage in damages.items():
        if damage is None:
            return place
    raise ExportError(
        f"the model {exported.path} is not what run {given!r} exported ({damages[Path(exported.path)]}): "
        "`glorasearch run RUN_FILE` makes it again"
    )
