"""Tiny runs: a run file, processes that work on it, and a view of what they leave behind."""

from __future__ import annotations

import csv
import json
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import URL, NullPool, create_engine, text

from glorasearch.db import RunRecord, RunStore, TrialStorage, sqlite_url
from support.processes import DEADLINE_SECONDS
from support.programs import Program

NAME = "tiny"
RUN_FILE = f"""
name = "{NAME}"
device = "cpu"
threads = 1
[backbone]
name = "vit_tiny_patch16_224"
pretrained = false
args = {{img_size=28, patch_size=14, embed_dim=24, depth=2, num_heads=2, in_chans=1}}
[data]
source = "digits"
train = 200
search = 100
test = 200
[space]
name = "glora_medium"
[train]
steps = 80
lr = 1e-3
batch_size = 32
warmup_steps = 5
drop_path = 0.1
record_every = 5
probe_every = 40
checkpoint_every = 20
[search]
trials = 48
population = 16
parents = 4
[race]
enabled = false
[refit]
steps = 40
[report]
baselines = ["lora"]
random_subnets = 2
"""
VARIES = ("seconds", "evaluation_seconds", "images_per_second", "latency", "path", "trials_digest")
"""What differs between two runs that are otherwise the same; the digest is also over the trials' seconds."""


def timeless(content: Any) -> Any:
    """The content without times and places."""
    if isinstance(content, dict):
        return {key: timeless(value) for key, value in content.items() if key not in VARIES}
    return [timeless(item) for item in content] if isinstance(content, (list, tuple)) else content


def curve_rows(path: Path) -> Iterator[tuple[tuple[str, str], ...]]:
    """The rows of a table of curves: column and number, without times and what is not there."""
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            yield tuple((name, cell) for name, cell in row.items() if cell and name not in (*VARIES, "time"))


@dataclass
class Bench:
    """One workspace and the run in it."""

    workspace: Path
    run_file: Path
    overrides: tuple[str, ...] = ()
    server_url: str = ""
    """Of the database, unless it is the workspace's own."""
    processes: list[Program] = field(default_factory=list)

    def arguments(self, command: str = "run", *more: str) -> list[str]:
        """Of the command line."""
        sets = [text for override in self.overrides for text in ("--set", override)]
        return [command, str(self.run_file), *self.place, *sets, *more]

    @property
    def place(self) -> list[str]:
        """The options that say where the run is kept."""
        database = ["--database", self.server_url] if self.server_url else []
        return ["--workspace", str(self.workspace), *database]

    def start(self, command: str = "run", *more: str) -> Program:
        """A real process, its output going to files so that it never waits for a reader."""
        self.workspace.mkdir(parents=True, exist_ok=True)
        number = len(self.processes)
        program = Program(self.arguments(command, *more), self._log(number, "out"), self._log(number, "err"))
        self.processes.append(program)
        return program

    def finish(self, command: str = "run", *more: str) -> str:
        """Run a process to its end; returns what it wrote to standard error."""
        process = self.start(command, *more)
        code = process.wait(DEADLINE_SECONDS)
        assert code == 0, self.errors()
        return self.errors()

    def errors(self) -> str:
        """Standard error of the last process."""
        return self._log(len(self.processes) - 1, "err").read_text()

    def stop_when(self, condition: Callable[[], bool], process: Program, how: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal as soon as the condition holds, or the process has ended; returns the exit status."""
        self.poll(lambda: condition() or process.poll() is not None)
        process.send_signal(how)
        return process.wait(DEADLINE_SECONDS)

    def wait_until(self, condition: Callable[[], bool], process: Program) -> None:
        """Wait until the condition holds; the process must not end before."""
        self.poll(lambda: condition() or process.poll() is not None)
        assert process.poll() is None, f"ended before the condition held:\n{self.errors()}"

    def poll(self, condition: Callable[[], bool]) -> None:
        """Look again and again until the condition holds."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain:\n{self.errors()}"
            time.sleep(0.002)

    def end_all(self) -> None:
        """Leave no process behind."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()

    def count(self, query: str) -> int:
        """A number out of the database, 0 as long as there is none; read from outside, without any lock."""
        if self.server_url:
            with create_engine(self.server_url, poolclass=NullPool).connect() as connection:
                return int(connection.execute(text(query)).scalar() or 0)
        try:
            path = self.workspace / "glorasearch.db"
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
                return int(connection.execute(query).fetchone()[0] or 0)
        except sqlite3.OperationalError:
            return 0

    def steps(self, stage: str) -> int:
        """Steps of a stage that are in the database."""
        return self.count(f"select max(step) from glorasearch_metrics where stage = '{stage}'")

    def trials(self) -> int:
        """Trials that have finished."""
        return self.count("select count(*) from glorasearch_trials where state in ('complete', 'pruned')")

    def progress(self) -> int:
        """A number that only grows while the run goes on, also over restarts."""
        steps = self.count("select sum(steps) from (select max(step) as steps from glorasearch_metrics group by stage)")
        return steps + self.trials() + self.count("select count(*) from glorasearch_stages")

    def has_stage(self, stage: str) -> bool:
        """Whether a stage has finished."""
        return self.count(f"select count(*) from glorasearch_stages where stage = '{stage}'") == 1

    def checkpoint(self, stage: str) -> Path:
        """Where a stage keeps its checkpoint."""
        return self.folder / "checkpoints" / f"{stage}.safetensors"

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.workspace / "runs" / NAME

    @property
    def curves(self) -> Path:
        """The folder of its curves."""
        return self.folder / "curves"

    @property
    def report(self) -> dict[str, Any]:
        """`report.json`."""
        content: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return content

    @property
    def findings(self) -> dict[str, Any]:
        """The report without times and places."""
        content: dict[str, Any] = timeless(self.report)
        return content

    @property
    def exported(self) -> dict[str, bytes]:
        """The files of the exported model."""
        return {path.name: path.read_bytes() for path in (self.folder / "export").iterdir()}

    @property
    def database_url(self) -> str | URL:
        """Of the workspace."""
        return self.server_url or sqlite_url(self.workspace / "glorasearch.db")

    @property
    def record(self) -> RunRecord:
        """The run as the database has it."""
        found = RunStore(self.database_url).get(NAME)
        assert found is not None
        return found

    def outcome(self) -> dict[str, Any]:
        """Everything that a run found, bit for bit, without times and places."""
        runs, storage = RunStore(self.database_url), TrialStorage(self.database_url)
        trials = storage.get_all_trials(storage.get_study_id_from_name(NAME))
        return {
            "report": timeless(self.report),
            "stages": timeless(self.record.stages),
            "trials": [
                (trial.number, trial.state.name, trial.values, trial.params, timeless(trial.user_attrs))
                for trial in trials
            ],
            "evaluations": sum(trial.user_attrs.get("origin") == "evaluated" for trial in trials),
            "metrics": [
                (row.stage, row.step, row.name, row.value)
                for row in runs.metrics(NAME)
                if row.name != "images_per_second"
            ],
            "weights": sorted(path.name for path in (self.workspace / "weights").iterdir()),
            "export": self.exported,
            "curves": {path.name: tuple(curve_rows(path)) for path in sorted(self.curves.glob("*.csv"))},
            "files": sorted(
                str(path.relative_to(self.folder))
                for path in self.folder.rglob("*")
                if "tfevents" not in path.name  # whose name has the time
            ),
        }

    def _log(self, number: int, name: str) -> Path:
        return self.workspace / f"process-{number}.{name}"
