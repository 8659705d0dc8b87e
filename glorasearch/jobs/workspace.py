"""Where a workspace keeps what: the database, the weight store, a folder for each run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from glorasearch.errors import InputError

DEFAULT_WORKSPACE = "./glorasearch-runs"


@dataclass(frozen=True)
class Workspace:
    """A folder with `glorasearch.db` (unless another database is given), `weights/` and `runs/<name>/`."""

    path: Path
    database_url: str

    @classmethod
    def open(cls, path: str | Path = DEFAULT_WORKSPACE, database: str | None = None) -> Workspace:
        """The workspace at a path, made if it is not there; `database` is an SQLAlchemy URL."""
        folder = Path(path).expanduser().resolve()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"workspace {folder}: {error.strerror}; give another by --workspace") from error
        return cls(folder, database or f"sqlite:///{folder / 'glorasearch.db'}")

    @property
    def store_url(self) -> str:
        """URL of the weight store."""
        return str(self.path / "weights")

    def run_folder(self, name: str) -> Path:
        """The folder of a run: checkpoints, export, report."""
        return self.path / "runs" / name
