"""A run file made ready to be sent to a cluster: the files that go with it, the command there, and what to know."""

from __future__ import annotations

import importlib
import itertools
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

import glorasearch
from glorasearch.errors import ConfigError, InputError
from glorasearch.runs.config import RunConfig
from glorasearch.space import SearchSpace

DEFAULT_WORKSPACE = "~/glorasearch-runs"
"""On the cluster: in the home of the user that Ray runs as."""
LARGEST_BYTES = 16 * 2**20
"""Most that is sent along; what is larger belongs on the cluster."""
STOP_SECONDS = 30
"""Time between SIGTERM and SIGKILL for a job that is stopped; Ray's 3 s are little for writing to a far database."""
_SCHEMES = ("local-dir:", "folder:", "vtab:")
_SECRET_PARTS = ("password", "passfile", "sslpassword", "sslkey")


@dataclass
class Submission:
    """What a cluster needs to work on a run."""

    run: str
    """The run's name."""
    files: dict[str, Path] = field(default_factory=dict)
    """Relative path in the job's working directory → the file here."""
    command: list[str] = field(default_factory=list)
    """The job's command line."""
    environment: dict[str, str] = field(default_factory=dict)
    """Environment variables of the job."""
    metadata: dict[str, str] = field(default_factory=dict)
    """What the job's listing says beside the run's name."""
    notes: list[str] = field(default_factory=list)
    """What the user should know: what must exist on the cluster, and who can read what."""

    @property
    def entrypoint(self) -> str:
        """The command line for a shell."""
        return shlex.join(self.command)

    def write(self, folder: Path) -> None:
        """Copy the files into an empty folder, which becomes the job's working directory."""
        for name, source in self.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())


def prepare(
    config: Path,
    overrides: Sequence[str] = (),
    options: Sequence[str] = (),
    *,
    workspace: str | None = None,
    database: str | None = None,
) -> Submission:
    """Make a run file ready to be sent.

    The run file travels with the search spaces and the modules of plugins that it names here. Data, checkpoints and the
    export stay where they are: their paths, made absolute, are those of the cluster.

    Args:
        config: the run file.
        overrides: of `--set`.
        options: further options of `glorasearch run`, as they stand on its command line.
        workspace: a folder of the cluster: absolute, or beginning with `~`.
        database: SQLAlchemy URL of the database, as the cluster reaches it.

    Raises:
        InputError: if the run file cannot be used, or something in it would mean nothing on the cluster.
    """
    run_file = RunConfig.load(config, overrides)
    folder = workspace or DEFAULT_WORKSPACE
    if not folder.startswith(("/", "~")):
        raise InputError(
            f"--workspace {folder}: a job has no current directory that stays; give a folder of the cluster, absolute "
            f"or beginning with ~ (such as {DEFAULT_WORKSPACE}, on the head node, or one that all nodes share)"
        )
    _check_store(options)
    result = Submission(run_file.name, files={config.name: config})
    changes = [*_spaces(run_file, result), *_paths(run_file, result)]
    sets = [part for change in (f"name={run_file.name}", *overrides, *changes) for part in ("--set", change)]
    place = ["--executor", "ray", "--address", "auto", "--workspace", folder]
    result.command = ["python", "-m", "glorasearch", "run", config.name, *place, *options, *sets]
    result.metadata = {"glorasearch_workspace": folder, "glorasearch_version": glorasearch.__version__}
    result.environment = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}
    if database is not None:
        result.environment["GLORASEARCH_DATABASE"] = database
        result.notes += _about_database(database)
    _check_size(result)
    return result


def _spaces(run_file: RunConfig, result: Submission) -> list[str]:
    """Take the search spaces that lie here, and the modules of their plugins, along; returns the overrides for it."""

    def taken(name: str) -> str:
        plugins = SearchSpace.load(name).plugins
        for plugin in plugins:
            _take_module(plugin.partition(":")[0], result)
        source = Path(name)
        if not source.is_file():
            return name
        target = f"spaces/{source.name}"
        if result.files.setdefault(target, source).resolve() != source.resolve():
            raise ConfigError(f"{source} and {result.files[target]} have one name; rename one of these search spaces")
        return target

    space = taken(run_file.space.name)
    baselines = [taken(name) for name in run_file.report.baselines]
    changes = [f"space.name={_toml(space)}"] if space != run_file.space.name else []
    if baselines != list(run_file.report.baselines):
        changes.append(f"report.baselines={_toml(baselines)}")
    return changes


def _toml(value: str | list[str]) -> str:
    """A text or a list of texts, for which JSON and TOML are the same."""
    return json.dumps(value, ensure_ascii=False)


def _take_module(module: str, result: Submission) -> None:
    """Take the file (for a package: the Python files) of a module along, unless it is installed."""
    top = module.partition(".")[0]
    found = importlib.import_module(top)  # the space has imported it already
    origin = getattr(found, "__file__", None)
    if origin is None or _is_installed(Path(origin)):
        result.notes.append(f"module {top} must be installed on every node of the cluster")
        return
    path = Path(origin).resolve()
    if path.name != "__init__.py":
        result.files[path.name] = path
    else:
        result.files |= {
            str(file.relative_to(path.parent.parent)): file
            for file in path.parent.rglob("*.py")
            if "__pycache__" not in file.parts
        }
    result.notes.append(f"module {top} is sent along from {path}; what it imports must be installed on every node")


def _is_installed(path: Path) -> bool:
    return "site-packages" in path.parts or any(
        path.resolve().is_relative_to(Path(prefix, "lib").resolve()) for prefix in (sys.prefix, sys.base_prefix)
    )


def _paths(run_file: RunConfig, result: Submission) -> list[str]:
    """Overrides that make the paths of data, checkpoints and the export those of the cluster.

    Raises:
        ConfigError: for a relative path that does not exist here: there is nothing that it could mean there.
    """
    changes: list[str] = []
    for key, text, written in (
        ("backbone.name", run_file.backbone.name, False),
        ("backbone.checkpoint", run_file.backbone.checkpoint, False),
        ("data.source", run_file.data.source, False),
        ("data.root", run_file.data.root, False),
        ("export.path", run_file.export.path, True),
    ):
        scheme = next((scheme for scheme in _SCHEMES if (text or "").startswith(scheme)), "")
        if not text or (key in ("backbone.name", "data.source") and not scheme):
            continue
        path = text.removeprefix(scheme)
        if not path.startswith(("/", "~")):
            if not written and not Path(path).exists():
                raise ConfigError(
                    f"{key} is {text!r}: a relative path means nothing on the cluster, and there is none here that it "
                    "could stand for; write the absolute path that it has there"
                )
            path = str(Path(path).resolve())
        result.notes.append(f"{key}: {path} is a path of the cluster, on every node that uses it")
        changes.append(f"{key}={_toml(scheme + path)}")
    return changes


def _check_store(options: Sequence[str]) -> None:
    store = next((value for name, value in itertools.pairwise(options) if name == "--store"), "/")
    if "://" not in store and not store.startswith(("/", "~")):
        raise InputError(
            f"--store {store}: a job has no current directory that stays; give a URL such as s3://bucket/weights, or "
            "an absolute path that all nodes share"
        )


def _about_database(database: str) -> list[str]:
    """What to know of a database's URL that is sent with a job.

    Raises:
        InputError: if it is no URL, or a relative path of SQLite.
    """
    try:
        url = make_url(database)
    except ArgumentError as error:
        raise InputError(f"--database: expected a URL, such as postgresql+psycopg://host/name: {error}") from error
    if url.get_backend_name() == "sqlite" and not (url.database or "").startswith("/"):
        raise InputError(
            f"--database {database}: a job has no current directory that stays; give an absolute path (four slashes: "
            "sqlite:////srv/glorasearch.db) of the head node, or PostgreSQL"
        )
    if not _has_secret(url):
        return []
    shown = url.difference_update_query(_SECRET_PARTS).render_as_string(hide_password=True)
    return [
        f"the password of {shown} goes with the job as an environment variable: not "
        "in its command line, but whoever may use the cluster's job API can read it. To keep it out of the job, set "
        "GLORASEARCH_DATABASE (or PGPASSWORD) on the cluster's nodes and leave --database (or the password) out"
    ]


def _has_secret(url: URL) -> bool:
    return url.password is not None or any(part in url.query for part in _SECRET_PARTS)


def _check_size(result: Submission) -> None:
    sizes = {name: path.stat().st_size for name, path in result.files.items()}
    if sum(sizes.values()) > LARGEST_BYTES:
        largest = max(sizes, key=lambda name: sizes[name])
        raise InputError(
            f"run {result.run}: {sum(sizes.values()) / 2**20:.0f} MiB would go with the job, most of all "
            f"{result.files[largest]}; at most {LARGEST_BYTES / 2**20:.0f} MiB do. Install it on the cluster"
        )
