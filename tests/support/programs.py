"""`python -m glorasearch` as real processes that start in a fraction of the time.

Most of a short process is the import of torch, timm and SQLAlchemy. So these processes are forked from a server that
has imported everything and does nothing else; like those of a shell they have their own output, environment, working
directory and signal handlers. Where there are GPUs they are started anew: what those modules ask of CUDA while they are
imported makes it unusable in a fork.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

PRELOADED = [
    "torch",
    "timm",
    "optuna",
    "glorasearch.cli.main",
    "glorasearch.cli.report_table",
    "glorasearch.runs.bars",
    "glorasearch.runs.pipeline",
]
_context = multiprocessing.get_context("spawn" if torch.cuda.device_count() else "forkserver")


class Program:
    """A running command line of glorasearch, or a program that uses it; offers what `subprocess.Popen` does.

    Args:
        arguments: of the command line; the text of a program in Python instead.
        out: file for standard output.
        err: file for standard error.
        environment: environment variables that it has besides those of this process.
        folder: its working directory; that of this process if not given.
    """

    def __init__(
        self,
        arguments: list[str] | str,
        out: Path,
        err: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        _context.set_forkserver_preload(PRELOADED)  # nothing to those that are started anew
        variables = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"} | dict(environment or {})
        self._process = _context.Process(
            target=_main, args=(arguments, str(out), str(err), variables, str(folder or Path.cwd()))
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status; negative the signal that ended it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """See `returncode`."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; returns the exit status."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise TimeoutError(f"process {self.pid} has not ended within {timeout} s")
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def _main(arguments: list[str] | str, out: str, err: str, variables: dict[str, str], folder: str) -> None:
    for path, descriptor in ((out, 1), (err, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    for path in reversed([entry for entry in variables.get("PYTHONPATH", "").split(os.pathsep) if entry]):
        if path not in sys.path:
            sys.path.insert(0, path)
    # A shell's background jobs ignore Ctrl+C together with all that they start; these do not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if isinstance(arguments, str):
        exec(compile(arguments, "program", "exec"), {"__name__": "__main__"})
        return
    from glorasearch.cli.main import main

    main(arguments)
