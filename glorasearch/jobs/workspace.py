"""Where a workspace keeps what: the database, the weight store, a folder for each run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from glorasearch.errors import InputError

DEFAULT_WORKSPACE = "./glorasearch-runs"
DATABASE_NAME = "glorasearch.db"


@dataclass(frozen=True)
class Workspace:
    """A folder with `glorasearch.db` (unless another database is given), `weights/` and `runs/<name>/`."""

    path: Path
    database_url: str

    @classmethod
    def open(
        cls, path: str | Path = DEFAULT_WORKSPACE, database: str | None = None, *, create: bool = True
    ) -> Workspace:
        """The workspace at a path, made if it is not there and `create`; `database` is an SQLAlchemy URL.

        Raises:
            InputError: if the folder cannot be made or written.
        """
        folder = Path(path).expanduser().resolve()
        if create:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"workspace {folder}: {error.strerror}; give another by --workspace") from error
            if not os.access(folder, os.W_OK | os.X_OK):
                raise InputError(f"workspace {folder} is not writable; give another by --workspace")
        return cls(folder, database or f"sqlite:///{folder / DATABASE_NAME}")

    @property
    def has_database(self) -> bool:
        """Whether there is a database to look into; of one that is given by its URL this says True."""
        default = self.path / DATABASE_NAME
        return self.database_url != f"sqlite:///{default}" or default.is_file()

    @property
    def store_url(self) -> str:
        """URL of the weight store."""
        return str(self.path / "weights")

    def run_folder(self, name: str) -> Path:
        """The folder of a run: checkpoints, export, report."""
        return self.path / "runs" / name
