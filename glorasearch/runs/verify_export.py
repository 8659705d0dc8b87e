"""Whether an exported folder, wherever it lies now, is what its run made, and computes what the run's winner does."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from glorasearch.bounded import read_json_file
from glorasearch.errors import ExportError, InputError
from glorasearch.runs.files import FORMATS, MANIFEST, is_export
from glorasearch.runs.intact import FORMAT, Part, Verification, file_damage
from glorasearch.runs.progress import Progress
from glorasearch.runs.remembered import remembered
from glorasearch.runs.results import Results
from glorasearch.runs.run import Run
from glorasearch.runs.workspace import Workspace


def verify_export(workspace: Workspace, folder: Path, run: str | None = None, *, progress: Progress) -> Verification:
    """Compare a folder's files with their digests, and its outputs with those of the run's adapted model.

    Args:
        workspace: has the run and its weights.
        folder: an export.
        run: its name, if it is no longer that of the export.
        progress: shows what is being done.

    Raises:
        InputError: if the folder does not say of which run it is.
        RunNotFoundError: if there is no such run.
        WeightStoreError: if the weights of the refit are gone or damaged.
    """
    own = read_json_file(folder / ("config.json" if is_export(folder) else MANIFEST))
    facts = _checked(own["glorasearch"] if is_export(folder) else own, folder)
    name = run or facts["provenance"].get("run")
    if not name:
        raise InputError(f"{folder} does not say of which run it is: give --run NAME")
    (record,) = workspace.require_runs([name])
    results = Results(record.stages, record.name)
    known: dict[str, str | None]
    format = None if is_export(folder) else str(own["format"])
    part = "export" if format is None else f"{FORMAT}{format}"
    if format is not None and format not in FORMATS:
        raise InputError(f"{folder} is an export of the format {format}; this glorasearch knows {', '.join(FORMATS)}")
    if format is None:
        known = {} if results.export is None else {**results.export.sha256}
    else:
        recorded = results.formats.get(format)
        known = {MANIFEST: recorded.sha256.get(MANIFEST)} if recorded else {}
        known |= _listed(own, folder)
    parts = [Part(part, str(folder / file), file_damage(folder / file, sha256)) for file, sha256 in known.items()]
    if others := _others(folder, known):
        progress.say(f"notice: not of this export, and not checked: {', '.join(others)}")
    parts += _computed(workspace, folder, name, format, part, facts, progress)
    return Verification(name, record.state, tuple(parts))


def _checked(facts: Any, folder: Path) -> Mapping[str, Any]:
    """What an export, which may come from anywhere, says of itself."""
    given = facts if isinstance(facts, dict) else {}
    provenance, subnet, lossy = given.get("provenance") or {}, given.get("subnet_digest", ""), given.get("lossy") or {}
    if not (
        all(isinstance(one, dict) for one in (provenance, lossy))
        and all(isinstance(one, str) for one in (subnet, provenance.get("run") or ""))
        and all(isinstance(lossy.get(key, 1), int | float) for key in ("rank", "output_error"))
    ):
        raise InputError(f"{folder} does not say what it is in the form of an export: export it again")
    return {**given, "provenance": provenance, "subnet_digest": subnet}


def _listed(manifest: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """The files of an export and their SHA-256, by its manifest."""
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(
        isinstance(sha256, str) and Path(name).name == name for name, sha256 in files.items()
    ):
        raise InputError(f"{folder / MANIFEST} does not list the files of the folder: export it again")
    return files


def _others(folder: Path, known: Collection[str]) -> list[str]:
    """What lies in an export beside its own files; hidden files, such as Git's, may."""
    return sorted(file.name for file in folder.iterdir() if file.name not in known and not file.name.startswith("."))


def _computed(
    workspace: Workspace,
    folder: Path,
    name: str,
    format: str | None,
    part: str,
    facts: Mapping[str, Any],
    progress: Progress,
) -> Iterator[Part]:
    """What it is made of, and what it computes."""
    progress.say(f"run {name!r} in {workspace.path}: loading torch and timm")
    from glorasearch.export import ExportedModel
    from glorasearch.export.formats import compare_format
    from glorasearch.runs.formats import adapted_model

    session = Run(remembered(workspace, name, ()), workspace, progress=progress).session()
    adapted = adapted_model(session)
    made_of = facts["provenance"].get("weights")
    other = (
        None if made_of == adapted.provenance["weights"] else f"of weights {str(made_of)[:12]}, not of the run's refit"
    )
    yield Part(part, "weights of refit", other)
    if facts["subnet_digest"] != adapted.subnet.digest:
        yield Part(part, "subnet", f"{facts['subnet_digest'][:12]}, the winner is {adapted.subnet.digest[:12]}")
    place, damage = f"outputs on {len(adapted.images)} images of the search split", None
    try:
        if format is None:
            model = ExportedModel.load(folder, adapted.images.device).model
            adapted.compare(model, f"the export {folder.name} against the active subnet")
        else:
            compare_format(adapted, folder)
    except ExportError as error:
        damage = str(error)
    yield Part(part, place, damage)
