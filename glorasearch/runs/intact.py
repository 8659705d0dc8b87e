"""Whether what a run has made is still what its database says: files by their SHA-256, weights by their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from glorasearch.db import RunRecord
from glorasearch.errors import DatabaseError, WeightsNotFoundError, WeightStoreError
from glorasearch.runs.files import RunFiles, format_folder
from glorasearch.runs.results import ExportResult, Report, Results, SearchResult, TrainedResult
from glorasearch.runs.workspace import Workspace

FORMAT: Final = "export as "
"""Before the name of a format beside timm's."""


@dataclass(frozen=True, slots=True)
class Part:
    """Something that a run has made."""

    part: str
    """Such as `export` or `weights of train`."""
    place: str
    damage: str | None
    """What is wrong with it; None if it is as it was made."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What a run has made, each part compared with the database."""

    run: str
    state: str
    parts: tuple[Part, ...]

    @property
    def intact(self) -> bool:
        """Whether nothing is missing or damaged."""
        return not any(part.damage for part in self.parts)

    @property
    def remedy(self) -> str:
        """What to do about what is missing or damaged."""
        bad = {part.part for part in self.parts if part.damage}
        again = [stage for stage in ("train", "refit") if f"weights of {stage}" in bad]
        remedies = [f"`glorasearch {stage} RUN_FILE` trains the weights of {stage} again" for stage in again]
        if "table" in bad:
            remedies.append("tables come back with a copy of them alone: the test split is read once")
        formats = sorted(part.removeprefix(FORMAT) for part in bad if part.startswith(FORMAT))
        if formats:
            asked = " ".join(f"--format {format}" for format in formats)
            remedies.append(f"`glorasearch export {self.run} {asked}` writes these formats again")
        if bad & {"export", "report"}:
            remedies.append("`glorasearch run RUN_FILE` makes export and report again")
        if again:
            remedies.append("damaged weights have to be deleted first")
        if bad - {
            "export",
            "report",
            "table",
            *(f"weights of {stage}" for stage in again),
            *(f"{FORMAT}{one}" for one in formats),
        }:
            remedies.append("the rest comes back with a copy of it, or by starting over with --fresh")
        return "; ".join(remedies)

    def to_json(self) -> dict[str, Any]:
        """As a dictionary of JSON values."""
        parts = [asdict(part) for part in self.parts]
        return {"run": self.run, "state": self.state, "intact": self.intact, "parts": parts}


def verify_run(workspace: Workspace, name: str) -> Verification:
    """Compare everything that a run has made, and that its results name, with the database.

    Raises:
        RunNotFoundError: if there is no such run.
        DamagedRowError: if the run itself cannot be read from the database.
    """
    (record,) = workspace.require_runs([name])
    return Verification(name, record.state, tuple(_parts(workspace, record)))


def file_damage(path: Path, sha256: str | None) -> str | None:
    """What is wrong with a file that had this SHA-256 when it was written; None if nothing is."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if sha256 is None:
        return "the database has no digest of it: an earlier version wrote it"
    return None if found == sha256 else f"altered: SHA-256 {sha256[:12]} when it was written, {found[:12]} now"


def export_damage(exported: ExportResult, folder: Path) -> str | None:
    """What is wrong with an exported model, its first bad file; None if nothing is."""
    for name in exported.files:
        damage = file_damage(folder / name, exported.sha256.get(name))
        if damage is not None:
            return f"{name} is {damage}" if damage == "missing" else f"{name}: {damage}"
    return None


def report_damage(report: Report, path: Path) -> str | None:
    """What is wrong with `report.json`; None if nothing is."""
    return file_damage(path, hashlib.sha256(report.encode()).hexdigest())


def _parts(workspace: Workspace, record: RunRecord) -> Iterator[Part]:
    results = Results(record.stages, record.name)
    for stage, result in results.items():
        if isinstance(result, TrainedResult):
            yield _weights(workspace, stage, result.weights)
    if (record.config.get("point") or {}).get("run") is None:  # a point has no trials of its own
        yield Part("trials", str(workspace.database.name), _trials_damage(workspace, record.name, results.search))
    exported, report = results.export, results.report
    if exported is not None:
        for name in exported.files:
            path = Path(exported.path) / name
            yield Part("export", str(path), file_damage(path, exported.sha256.get(name)))
    for format, written in results.formats.items():
        stale = results.refit is not None and results.refit.weights != written.of_weights
        own = format_folder(RunFiles.of(workspace.run_folder(record.name), None).export, format)
        folder = own if own.is_dir() else Path(written.path)  # first: the workspace may have been moved
        for name in written.files:
            path = folder / name
            damage = "of an earlier refit" if stale else file_damage(path, written.sha256.get(name))
            yield Part(f"{FORMAT}{format}", str(path), damage)
    for name, sha256 in ({} if results.test is None else results.test.files).items():
        path = workspace.run_folder(record.name) / name
        yield Part("table", str(path), file_damage(path, sha256))
    if report is not None:
        path = RunFiles.of(workspace.run_folder(record.name), None).report
        yield Part("report", str(path), report_damage(report, path))


def _weights(workspace: Workspace, stage: str, digest: str) -> Part:
    damage = None
    try:
        workspace.store.verify(digest)
    except WeightsNotFoundError:
        damage = "missing"
    except WeightStoreError as error:
        damage = str(error)
    return Part(f"weights of {stage}", f"{workspace.store.name}/{digest}", damage)


def _trials_damage(workspace: Workspace, name: str, searched: SearchResult | None) -> str | None:
    from glorasearch.db import TrialStorage  # Optuna takes a second to import

    storage = TrialStorage(workspace.database)
    try:
        found = storage.get_all_trials(storage.get_study_id_from_name(name), deepcopy=False)
        digest = storage.finished_digest(name)
    except KeyError:
        return None if searched is None else "missing"
    except DatabaseError as error:
        return str(error)
    if searched is None or searched.trials_digest == digest:
        return None  # of a search that has not finished, it is known only that they can be read
    finished = sum(trial.state.is_finished() for trial in found)
    if finished != searched.trials:
        return f"{finished} of the {searched.trials} trials that the search finished are there"
    if searched.trials_digest is None:  # an earlier version wrote it
        return None
    return f"altered: SHA-256 {searched.trials_digest[:12]} when the search finished, {digest[:12]} now"
