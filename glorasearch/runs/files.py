"""The files of a run: checkpoints, the exported model, the report."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from glorasearch.bounded import read_json_file, user_path
from glorasearch.errors import InputError, RunError

if TYPE_CHECKING:
    from glorasearch.runs.results import Report


FORMATS: Final = ("timm", "adapter", "peft", "onnx", "torch-export", "safetensors")
"""The formats of an exported model; all but the first lie beside it."""
MANIFEST: Final = "glorasearch.json"
"""What is known of an export in one of the other formats; as `glorasearch.export.folder` writes it."""
EXPORTED: Final = ("config.json", "model.safetensors", "README.md")
"""The files of an exported model, as `glorasearch.export` writes them."""

PREDICTIONS: Final = "predictions.csv"
"""Of the test images: file, label, predicted class, probability of each class."""
SPLITS: Final = "splits.csv"
"""Split, file and label of each image."""


@dataclass(frozen=True)
class RunFiles:
    """The paths of a run's files."""

    folder: Path
    export: Path
    """The merged model."""

    @classmethod
    def of(cls, folder: Path, export: str | None) -> RunFiles:
        """The files of a run in a folder; `export` is the path in the run file, if there is one."""
        return cls(folder, user_path(export).resolve() if export else folder / "export")

    @property
    def report(self) -> Path:
        """The final report."""
        return self.folder / "report.json"

    @property
    def latencies(self) -> Path:
        """What layers took with their choices, where that is an objective of the search: a line of JSON each."""
        return self.folder / "latencies.jsonl"

    @property
    def curves(self) -> Path:
        """The curves."""
        return self.folder / "curves"

    def checkpoint(self, stage: str) -> Path:
        """The training checkpoint of a stage."""
        return self.folder / "checkpoints" / f"{stage.replace(':', '-').replace('/', '-')}.safetensors"

    def forget_checkpoint(self, stage: str) -> None:
        """Remove the checkpoints of a stage whose result is stored, and of its parts, such as `refit:teachers`."""
        from glorasearch.weights.checkpoint import previous_checkpoint

        path = self.checkpoint(stage)
        parts = () if ":" in stage else path.parent.glob(f"{glob.escape(path.stem)}-*")
        for kept in (path, previous_checkpoint(path), *parts):
            kept.unlink(missing_ok=True)

    def check_export(self, own: Collection[str] = ()) -> None:
        """Refuse to overwrite anything but an earlier export or an empty directory, and a place that cannot be written.

        `own` are the names of files that this run has written there: with nothing else in it, the directory is its
        export, however damaged.

        Raises:
            InputError: naming the path.
        """
        path = self.export
        try:
            found = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
            if not (is_export(path) or (path.is_dir() and found <= set(own)) or not os.path.lexists(path)):
                raise InputError(
                    f"export.path: {path} exists and is not an exported model; give a directory that is not there yet"
                )
        except OSError as error:
            raise InputError(f"export.path: {path} cannot be read: {error.strerror}; give another directory") from error
        check_writable(path, "export.path")


def format_folder(export: Path, format: str) -> Path:
    """Where an export in another format than timm's goes: beside `export`."""
    return export.with_name(f"{export.name}-{format}")


def check_writable(path: Path, what: str) -> None:
    """Refuse a path that cannot be made, or be put in the place of what is there.

    Raises:
        InputError: naming the path, and the folder that stands in the way.
    """
    folder = path.parent
    try:
        while not os.path.lexists(folder):
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder):  # the mode says too little: of a read-only disk, of a user who may all
            pass
    except OSError as error:
        raise InputError(
            f"{what}: {path} cannot be written ({folder}: {error.strerror}); give another path, or make the folder "
            "writable"
        ) from error


def write_report(report: Report, path: Path) -> None:
    """Write `report.json`, whole or not at all.

    Raises:
        RunError: naming the path and the remedy.
    """
    from glorasearch.weights.atomic import replace_file

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, report.encode())
    except OSError as error:
        raise RunError(
            f"report {path} cannot be written: {error.strerror}; all results are kept: make room, or the folder "
            "writable, and run the same command again"
        ) from error


def format_of(path: Path) -> str | None:
    """The format of an export beside timm's; None if there is none."""
    try:
        found = read_json_file(path / MANIFEST).get("format")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def is_export(path: Path) -> bool:
    """Whether a directory is an exported model."""
    try:
        return "glorasearch" in read_json_file(path / "config.json")
    except (OSError, ValueError, TypeError):
        return False
