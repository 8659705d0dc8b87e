"""Where runs are kept: one database, one weight store and a folder for each run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from glorasearch.bounded import user_path
from glorasearch.db import Database, RunRecord, RunStore, sqlite_url
from glorasearch.db.retry import RETRY_SECONDS
from glorasearch.errors import InputError, RunNotFoundError, did_you_mean
from glorasearch.redact import conceal, has_secret, redact_url
from glorasearch.runs.files import RunFiles
from glorasearch.terminal import is_text

if TYPE_CHECKING:
    from sqlalchemy import URL

    from glorasearch.weights import WeightStore

DEFAULT_WORKSPACE = "./glorasearch-runs"
DATABASE_NAME = "glorasearch.db"
STORE_NAME = "weights"
CODE_NAME = "compiled"
NO_CODE: Final = "off"
"""In place of a folder for compiled code: none is kept."""
_AWS: Final = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
_CREDENTIALS: Final[Mapping[str, str]] = {
    "s3": _AWS,
    "s3a": _AWS,
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS",
}
"""Scheme of an object store → where its credentials are looked for."""


@dataclass(frozen=True)
class Workspace:
    """A folder with `glorasearch.db` and `weights/` (unless they are elsewhere) and `runs/<name>/`.

    Database and weight store are opened once, on first use. Listing runs needs no torch and creates no file.
    """

    path: Path
    given_database: str | None
    """SQLAlchemy URL of the database; None for the file in the folder."""
    store_url: str
    """Path or fsspec URL of the weight store."""
    code_cache: Path | None
    """Folder of compiled code, on a disk of this machine; None if none is kept."""
    retry_seconds: float = RETRY_SECONDS
    """How long the database's server may be out of reach."""

    @classmethod
    def open(
        cls,
        path: str | Path = DEFAULT_WORKSPACE,
        database: str | None = None,
        store: str | None = None,
        *,
        code_cache: str | Path | None = None,
        create: bool = True,
    ) -> Workspace:
        """The workspace at a path, created if it does not exist and `create` is set.

        Args:
            path: of the folder.
            database: SQLAlchemy URL.
            store: path or fsspec URL of the weight store.
            code_cache: folder of compiled code, `compiled/` if not given; `off` keeps none.
            create: create the folder, and open the database.

        Raises:
            InputError: if the folder cannot be created or written, the database's URL cannot be used, this kind of
                weight store is not supported, or compiled code is to be kept elsewhere than in a folder.
            DatabaseError: if the database cannot be reached.
        """
        conceal(database, store)
        folder = user_path(path).resolve()
        if not is_text(str(folder)):
            raise InputError(f"workspace {folder}: its path has bytes that are not UTF-8; choose another")
        if create:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"workspace {folder}: {error.strerror}; choose another with --workspace") from error
            if not os.access(folder, os.W_OK | os.X_OK):
                raise InputError(f"workspace {folder} is not writable; choose another with --workspace")
        workspace = cls(folder, database or None, _store_url(store, folder), _code_folder(code_cache, folder))
        if create:
            _ = workspace.database
        return workspace

    @property
    def database_url(self) -> str | URL:
        """The URL of the database."""
        return self.given_database or sqlite_url(self.path / DATABASE_NAME)

    @cached_property
    def database(self) -> Database:
        """The database."""
        return Database(self.database_url, retry_seconds=self.retry_seconds)

    @cached_property
    def runs(self) -> RunStore:
        """The runs of the database."""
        return RunStore(self.database)

    @cached_property
    def store(self) -> WeightStore:
        """The weight store; imports torch."""
        from glorasearch.weights import WeightStore

        return WeightStore(self.store_url)

    @property
    def has_database(self) -> bool:
        """Whether there is a database; True if its URL was given."""
        return self.given_database is not None or (self.path / DATABASE_NAME).is_file()

    def list_runs(self) -> list[RunRecord]:
        """All runs, in the order of their creation; creates no database."""
        return self.runs.list() if self.has_database else []

    def damaged_runs(self) -> dict[str, str]:
        """Name → what is wrong, for the runs that cannot be read from the database."""
        return self.runs.damaged() if self.has_database else {}

    def require_runs(self, names: Sequence[str]) -> list[RunRecord]:
        """The runs of these names, each once and in this order.

        Raises:
            DamagedRowError: if one of them cannot be read.
            RunNotFoundError: naming those that the workspace does not know, and those that it does.
        """
        known = {record.name: record for record in self.list_runs()}
        missing = [f"{name!r}{did_you_mean(name, known)}" for name in names if name not in known]
        for name in names if missing else ():
            if name not in known and self.has_database:
                self.runs.get(name)  # raises if it is there and damaged
        if missing:
            raise RunNotFoundError(
                f"no run {', '.join(missing)} in {self.path}; known are: {', '.join(known) or 'none'}"
            )
        return [known[name] for name in dict.fromkeys(names)]

    def run_files(self, name: str) -> RunFiles:
        """The files of a run, wherever its model was exported."""
        return RunFiles.of(self.run_folder(name), None)

    def run_folder(self, name: str) -> Path:
        """The folder of a run: checkpoints, export, report."""
        return self.path / "runs" / name


def _code_folder(given: str | Path | None, folder: Path) -> Path | None:
    """The folder of compiled code; that of a workspace whose weights are in a bucket is on this machine, too."""
    if str(given) == NO_CODE:
        return None
    if "://" in str(given):
        raise InputError(
            f"--code-cache {redact_url(str(given))}: compiled code is kept in a folder of this machine; give its path, "
            f"or {NO_CODE}"
        )
    place = user_path(given).resolve() if given else folder / CODE_NAME
    if place.exists() and not place.is_dir():
        raise InputError(f"--code-cache {place}: it is not a folder; give another path, or {NO_CODE}")
    return place


def refuse_credentials(store: str) -> None:
    """Refuse the URL of a bucket with credentials in it, which libraries would take for a part of the bucket's name.

    Raises:
        InputError: saying where they belong.
    """
    bucket = store.rpartition("::")[2]
    scheme = bucket.partition("://")[0]
    if scheme in _CREDENTIALS and has_secret(bucket):
        raise InputError(
            f"--store {redact_url(store)}: credentials are not read from a bucket's URL; give them by "
            f"{_CREDENTIALS[scheme]}, and write {scheme}://bucket/prefix"
        )


def _store_url(given: str | None, folder: Path) -> str:
    """The URL of the weight store; a path is made absolute, since workers have other current directories."""
    if not given:
        return str(folder / STORE_NAME)
    if given.startswith(("/", "~", "./", "../")) or ("://" not in given and "::" not in given):
        return str(user_path(given).resolve())
    import fsspec

    refuse_credentials(given)
    scheme = given.partition("::")[0].partition("://")[0]
    shown = redact_url(given)
    try:
        if not scheme:  # fsspec would make a folder of the colon
            raise ValueError("it has no scheme")
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        extra = "s3" if scheme in ("s3", "s3a") else None
        package = f"pip install 'glorasearch[{extra}]'" if extra else "the package that the message names"
        raise InputError(f"--store {shown}: a library is missing ({error}); install it by {package}") from error
    except ValueError as error:
        raise InputError(
            f"--store {shown}: {error}; allowed are a path and fsspec's URLs, such as s3://bucket/prefix"
        ) from error
    return _path_of(given) if scheme in ("file", "local") and "::" not in given else given


def _path_of(url: str) -> str:
    """The path that a URL of files means, absolute, if every program reads the same in it."""
    import fsspec

    if any(mark in url for mark in "%?#"):
        raise InputError(
            f"--store {url}: %, ? and # are characters of the path to some programs and not to others; give the path "
            "itself, without file://"
        )
    return str(fsspec.core.url_to_fs(url)[1])
