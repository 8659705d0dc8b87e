"""The files of a run: checkpoints, the exported model, the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from glorasearch.bounded import read_json_file
from glorasearch.errors import InputError


@dataclass(frozen=True)
class RunFiles:
    """The paths of a run's files."""

    folder: Path
    export: Path
    """The merged model."""

    @classmethod
    def of(cls, folder: Path, export: str | None) -> RunFiles:
        """The files of a run in a folder; `export` is the path in the run file, if there is one."""
        return cls(folder, Path(export).expanduser().resolve() if export else folder / "export")

    @property
    def report(self) -> Path:
        """The final report."""
        return self.folder / "report.json"

    def checkpoint(self, stage: str) -> Path:
        """The training checkpoint of a stage."""
        return self.folder / "checkpoints" / f"{stage.replace(':', '-').replace('/', '-')}.safetensors"

    def forget_checkpoint(self, stage: str) -> None:
        """Remove the checkpoints of a stage whose result is stored, and of its parts, such as `refit:teachers`."""
        from glorasearch.weights.checkpoint import previous_checkpoint

        path = self.checkpoint(stage)
        parts = () if ":" in stage else path.parent.glob(f"{path.stem}-*")
        for kept in (path, previous_checkpoint(path), *parts):
            kept.unlink(missing_ok=True)

    def check_export(self) -> None:
        """Refuse to overwrite anything but an earlier export or an empty directory.

        Raises:
            InputError: naming the path.
        """
        path = self.export
        if not path.exists() or is_export(path) or (path.is_dir() and not any(path.iterdir())):
            return
        raise InputError(
            f"export.path: {path} exists and is not an exported model; give a directory that is not there yet"
        )


def is_export(path: Path) -> bool:
    """Whether a directory is an exported model."""
    try:
        return "glorasearch" in read_json_file(path / "config.json")
    except (OSError, ValueError, TypeError):
        return False
