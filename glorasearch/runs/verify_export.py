"""Whether an exported folder, wherever it lies now, is what its run made, and computes what the run's winner does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from glorasearch.bounded import read_json_file
from glorasearch.errors import ExportError, InputError
from glorasearch.runs.files import MANIFEST, is_export
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
    facts: Mapping[str, Any] = own["glorasearch"] if is_export(folder) else own
    name = run or (facts.get("provenance") or {}).get("run")
    if not name:
        raise InputError(f"{folder} does not say of which run it is: give --run NAME")
    (record,) = workspace.require_runs([name])
    results = Results(record.stages, record.name)
    known: dict[str, str | None]
    format = None if is_export(folder) else str(own["format"])
    part = "export" if format is None else f"{FORMAT}{format}"
    if format is None:
        known = {} if results.export is None else {**results.export.sha256}
    else:
        recorded = results.formats.get(format)
        known = {MANIFEST: recorded.sha256.get(MANIFEST)} if recorded else {}
        known |= own["files"]
    parts = [Part(part, str(folder / file), file_damage(folder / file, sha256)) for file, sha256 in known.items()]
    parts += _computed(workspace, folder, name, format, part, facts, progress)
    return Verification(name, record.state, tuple(parts))


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
    from glorasearch.export.formats import FORMATS, compare_format
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
        elif format not in FORMATS:
            damage = f"this glorasearch knows no format {format}"
        else:
            compare_format(adapted, folder)
    except ExportError as error:
        damage = str(error)
    yield Part(part, place, damage)
