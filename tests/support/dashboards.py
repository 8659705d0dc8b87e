"""`glorasearch dashboard` as a real process, and a finished run for it to show."""

from __future__ import annotations

import fcntl
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.processes import DEADLINE_SECONDS, wait_until
from support.programs import Program
from support.runs import NAME, RUN_FILE, Bench

SHOWN = (
    "race.enabled=true", 'race.methods=["lora", "linear_probe"]', "race.rates=[1e-3, 1e-2]", "race.finalists=2",
    "race.steps=12", "race.folds=2", "race.rungs=[1]", "race.keep=2", "race.stack=2", "refit.steps=20",
    "refit.teachers=2", "refit.orders=1", "refit.teacher_steps=20", "refit.mixed=20",
    "report.steps=20", "report.random_subnets=2", "search.trials=48", "train.steps=40",
)  # fmt: skip
"""A run with something for every figure, in seconds."""
ENDLESS = ("search.trials=100_000", "train.steps=20", "race.enabled=false")
"""A run whose search goes on until it is killed."""


def finished_run(folder: Path) -> Bench:
    """The tiny run, finished, in a workspace that all processes of the tests share: the first one makes it."""
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(folder / "workspace", run_file(folder), SHOWN)
    done = folder / "done"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            bench.finish()
            done.touch()
    return bench


def run_file(folder: Path) -> Path:
    """The run file of the tiny run."""
    path = folder / f"{NAME}.toml"
    path.write_text(RUN_FILE)
    return path


@contextmanager
def served(folder: Path, *options: str, **environment: str) -> Iterator[str]:
    """The address of a dashboard process on a free port.

    Args:
        folder: for what it prints.
        options: of `glorasearch dashboard`, besides the port.
        environment: variables that it has.
    """
    folder.mkdir(parents=True, exist_ok=True)
    out, err = folder / "dashboard.out", folder / "dashboard.err"
    process = Program(["dashboard", "--port", "0", *options], out, err, environment)

    def address() -> re.Match[str] | None:
        assert process.poll() is None, f"the dashboard ended: {out.read_text()}{err.read_text()}"
        return re.search(r"http://[\w.:\[\]]+:\d+", out.read_text()) if out.exists() else None

    try:
        wait_until(lambda: address() is not None, "the dashboard's address")
        found = address()
        assert found is not None
        yield found[0]
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(DEADLINE_SECONDS)
        finally:
            process.kill()
    assert process.returncode == 0, err.read_text()
