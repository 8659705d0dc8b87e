"""Where a workspace keeps what: the database, the weight store, a folder for each run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from glorasearch.errors import InputError

DEFAULT_WORKSPACE = "./glorasearch-runs"
DATABASE_NAME = "glorasearch.db"
STORE_NAME = "weights"


@dataclass(frozen=True)
class Workspace:
    """A folder with `glorasearch.db` and `weights/` (unless other places are given for them) and `runs/<name>/`."""

    path: Path
    database_url: str
    store_url: str
    """Of the weight store: a path or an fsspec URL."""

    @classmethod
    def open(
        cls,
        path: str | Path = DEFAULT_WORKSPACE,
        database: str | None = None,
        store: str | None = None,
        *,
        create: bool = True,
    ) -> Workspace:
        """The workspace at a path, made if it is not there and `create`.

        Args:
            path: of the folder.
            database: SQLAlchemy URL.
            store: path or fsspec URL of the weight store.
            create: make the folder.

        Raises:
            InputError: if the folder cannot be made or written, or there is no such kind of weight store here.
        """
        folder = Path(path).expanduser().resolve()
        if create:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"workspace {folder}: {error.strerror}; give another by --workspace") from error
            if not os.access(folder, os.W_OK | os.X_OK):
                raise InputError(f"workspace {folder} is not writable; give another by --workspace")
        return cls(folder, database or f"sqlite:///{folder / DATABASE_NAME}", _store_url(store, folder))

    @property
    def has_database(self) -> bool:
        """Whether there is a database to look into; of one that is given by its URL this says True."""
        default = self.path / DATABASE_NAME
        return self.database_url != f"sqlite:///{default}" or default.is_file()

    def run_folder(self, name: str) -> Path:
        """The folder of a run: checkpoints, export, report."""
        return self.path / "runs" / name


def _store_url(given: str | None, folder: Path) -> str:
    """The URL of the weight store; a path is made absolute, since workers have other current directories."""
    if not given:
        return str(folder / STORE_NAME)
    if "://" not in given and "::" not in given:
        return str(Path(given).expanduser().resolve())
    import fsspec

    scheme = given.partition("::")[0].partition("://")[0]
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        extra = "s3" if scheme in ("s3", "s3a") else None
        package = f"pip install 'glorasearch[{extra}]'" if extra else "the package that the message names"
        raise InputError(f"--store {given}: a library is missing ({error}); install it by {package}") from error
    except ValueError as error:
        raise InputError(
            f"--store {given}: {error}; allowed are a path and fsspec's URLs, such as s3://bucket/prefix"
        ) from error
    return given
