"""A run file as a job of a Ray cluster: the files to send, the command line there, and notes for the user."""

from __future__ import annotations

import importlib
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from glorasearch.db import read_url
from glorasearch.errors import ConfigError, InputError
from glorasearch.redact import has_secret, redact, redact_url
from glorasearch.runs.config import RunConfig
from glorasearch.runs.paths import split_scheme
from glorasearch.runs.workspace import refuse_credentials
from glorasearch.search.starts import RUN, load_outside
from glorasearch.space import SearchSpace
from glorasearch.version import __version__

DEFAULT_WORKSPACE = "~/glorasearch-runs"
"""On the cluster, in the home of the user that Ray runs as."""
LARGEST_BYTES = 16 * 2**20
"""Largest total size of the files of a job."""
STOP_SECONDS = 30
"""Between SIGTERM and SIGKILL when a job is stopped; Ray's 3 s are too short for a slow connection to the database."""


@dataclass
class Submission:
    """A run ready to be sent."""

    run: str
    """The run's name."""
    files: dict[str, Path] = field(default_factory=dict)
    """Relative path in the job's working directory → the file here."""
    command: list[str] = field(default_factory=list)
    """The job's command line."""
    environment: dict[str, str] = field(default_factory=dict)
    """Environment variables of the job."""
    metadata: dict[str, str] = field(default_factory=dict)
    """Shown in the listing of jobs, beside the run's name."""
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
    run_file: Path,
    overrides: Sequence[str] = (),
    options: Sequence[str] = (),
    *,
    workspace: str | None = None,
    database: str | None = None,
) -> Submission:
    """Make a run file ready to be sent.

    Search spaces and modules of plugins that the run file names are sent with it. Data, checkpoints and the export are
    not: their paths, made absolute, are paths of the cluster.

    Args:
        run_file: its path.
        overrides: of `--set`.
        options: further options of `glorasearch run`, as they stand on its command line.
        workspace: a folder of the cluster: absolute, or beginning with `~`.
        database: SQLAlchemy URL of the database, as the cluster reaches it.

    Raises:
        InputError: if the run file cannot be used, or something in it would mean nothing on the cluster.
    """
    config = RunConfig.load(run_file, overrides)
    folder = workspace or DEFAULT_WORKSPACE
    if not folder.startswith(("/", "~")):
        raise InputError(
            f"--workspace {folder}: a job has no current directory that stays; give a folder of the cluster, absolute "
            f"or beginning with ~ (such as {DEFAULT_WORKSPACE}, on the head node, or one that all nodes share)"
        )
    options, store = _without_store_secret(options)
    submission = Submission(config.name, files={run_file.name: run_file})
    changes = [*_spaces(config, submission), *_starts(config, submission), *_paths(config, submission)]
    settings = [part for change in (f"name={config.name}", *overrides, *changes) for part in ("--set", change)]
    if shown := next((redact(setting) for setting in settings if redact(setting) != setting), None):
        raise InputError(
            f"--set {shown}: a credential in it would stand in the command line of the job, which everyone at the "
            "cluster can read; set it in the run file, which is sent along, or on the cluster's nodes"
        )
    place = ["--executor", "ray", "--address", "auto", "--workspace", folder]
    submission.command = ["python", "-m", "glorasearch", "run", run_file.name, *place, *options, *settings]
    submission.metadata = {"glorasearch_workspace": folder, "glorasearch_version": __version__}
    submission.environment = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}
    if database is not None:
        submission.environment["GLORASEARCH_DATABASE"] = database
        submission.notes += _database_notes(database)
    if store is not None:
        submission.environment["GLORASEARCH_STORE"] = store
        submission.notes.append(_secret_note(store, "GLORASEARCH_STORE", "--store"))
    _check_size(submission)
    return submission


def _spaces(config: RunConfig, submission: Submission) -> list[str]:
    """Add the search spaces that are files here, and the modules of their plugins; returns the overrides for them."""

    def add(name: str) -> str:
        plugins = SearchSpace.load(name).plugins
        for plugin in plugins:
            _add_module(plugin.partition(":")[0], submission)
        source = Path(name)
        if not source.is_file():
            return name
        return _add_file("spaces", source, submission)

    space = add(config.space.name)
    baselines = [add(name) for name in config.report.baselines]
    changes = [f"space.name={_toml(space)}"] if space != config.space.name else []
    if baselines != list(config.report.baselines):
        changes.append(f"report.baselines={_toml(baselines)}")
    methods = [add(name) for name in config.race.methods or ()]
    if methods != list(config.race.methods or ()):
        changes.append(f"race.methods={_toml(methods)}")
    return changes


def _starts(config: RunConfig, submission: Submission) -> list[str]:
    """Add the files of subnets that the search starts from; returns the override for them."""
    entries = config.search.start
    _ = load_outside(entry for entry in entries if not entry.startswith(RUN))  # so that they can be read
    sent = [_add_file("starts", Path(name), submission) if name.endswith(".json") else name for name in entries]
    if any(entry.startswith(RUN) for entry in entries):
        submission.notes.append("search.start: runs that it names must be in the workspace of the cluster")
    return [f"search.start={_toml(sent)}"] if sent != list(entries) else []


def _add_file(folder: str, source: Path, submission: Submission) -> str:
    """Add a file; returns its path in the job's working directory."""
    target = f"{folder}/{source.name}"
    if submission.files.setdefault(target, source).resolve() != source.resolve():
        raise ConfigError(f"{source} and {submission.files[target]} have one name; rename one of these files")
    return target


def _toml(value: str | list[str]) -> str:
    """A text or a list of texts, for which JSON and TOML are the same."""
    return json.dumps(value, ensure_ascii=False)


def _add_module(module: str, submission: Submission) -> None:
    """Add the file of a module, or the Python files of a package, unless it is installed."""
    top = module.partition(".")[0]
    found = importlib.import_module(top)  # loading the space has imported it
    origin = getattr(found, "__file__", None)
    if origin is None or _is_installed(Path(origin)):
        submission.notes.append(f"module {top} must be installed on every node of the cluster")
        return
    path = Path(origin).resolve()
    if path.name != "__init__.py":
        submission.files[path.name] = path
    else:
        submission.files |= {
            str(file.relative_to(path.parent.parent)): file
            for file in path.parent.rglob("*.py")
            if "__pycache__" not in file.parts
        }
    submission.notes.append(f"module {top} is sent along from {path}; what it imports must be installed on every node")


def _is_installed(path: Path) -> bool:
    return "site-packages" in path.parts or any(
        path.resolve().is_relative_to(Path(prefix, "lib").resolve()) for prefix in (sys.prefix, sys.base_prefix)
    )


def _paths(config: RunConfig, submission: Submission) -> list[str]:
    """Overrides that make the paths of data, checkpoints and the export those of the cluster.

    Raises:
        ConfigError: for a relative path that does not exist here, which could mean nothing on the cluster.
    """
    changes: list[str] = []
    for key, text, written in (
        ("backbone.name", config.backbone.name, False),
        ("backbone.checkpoint", config.backbone.checkpoint, False),
        ("data.source", config.data.source, False),
        ("data.root", config.data.root, False),
        ("export.path", config.export.path, True),
    ):
        scheme, path, task = split_scheme(text or "")
        if not text or (key in ("backbone.name", "data.source") and not scheme):
            continue
        if not path.startswith(("/", "~")):
            if not written and not Path(path).exists():
                raise ConfigError(
                    f"{key} is {text!r}: a relative path means nothing on the cluster, and does not exist here either; "
                    "write the absolute path that it has there"
                )
            path = str(Path(path).resolve())
        submission.notes.append(f"{key}: {path} is a path of the cluster, on every node that uses it")
        changes.append(f"{key}={_toml(scheme + path + task)}")
    return changes


def _without_store_secret(options: Sequence[str]) -> tuple[list[str], str | None]:
    """The options without a `--store` that holds a credential, and that store.

    Raises:
        InputError: if the store is a relative path.
    """
    place = next((place for place, name in enumerate(options) if name == "--store"), None)
    if place is None:
        return list(options), None
    store = options[place + 1]
    if "://" not in store and not store.startswith(("/", "~")):
        raise InputError(
            f"--store {redact_url(store)}: a job has no current directory that stays; give a URL such as "
            "s3://bucket/weights, or an absolute path that all nodes share"
        )
    refuse_credentials(store)
    if not has_secret(store):
        return list(options), None
    return [*options[:place], *options[place + 2 :]], store


def _database_notes(database: str) -> list[str]:
    """Notes on a database's URL that is sent with a job.

    Raises:
        InputError: if it is no URL, or a relative path of SQLite.
    """
    url = read_url(database)
    if url.get_backend_name() == "sqlite" and not (url.database or "").startswith("/"):
        raise InputError(
            f"--database {redact_url(database)}: a job has no current directory that stays; give an absolute path "
            "(four slashes: sqlite:////srv/glorasearch.db) of the head node, or PostgreSQL"
        )
    return [_secret_note(database, "GLORASEARCH_DATABASE", "--database")] if has_secret(database) else []


def _secret_note(url: str, variable: str, option: str) -> str:
    return (
        f"the credentials of {redact_url(url)} go with the job as an environment variable: not in its command line, "
        "but anyone with access to the cluster's job API can read it, and so can, while Ray starts a worker, the users "
        "of its node. To keep them out of the job, set "
        f"{variable} on the cluster's nodes and leave {option} out"
    )


def _check_size(submission: Submission) -> None:
    sizes = {name: path.stat().st_size for name, path in submission.files.items()}
    if sum(sizes.values()) > LARGEST_BYTES:
        largest = max(sizes, key=lambda name: sizes[name])
        raise InputError(
            f"run {submission.run}: {sum(sizes.values()) / 2**20:.0f} MiB would go with the job, most of all "
            f"{submission.files[largest]}; at most {LARGEST_BYTES / 2**20:.0f} MiB do. Install it on the cluster"
        )
