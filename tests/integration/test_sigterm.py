"""SIGTERM, by which clusters stop jobs: as Ctrl+C, with an exit code of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glorasearch.cli.main import run as command_line
from glorasearch.db import RunState

Bench = Any


def test_sigterm_is_exit_143_and_the_run_goes_on(make_bench: Callable[..., Bench], undisturbed: Bench) -> None:
    bench = make_bench()

    code = bench.stop_when(lambda: bench.trials() >= 5, bench.start(), signal.SIGTERM)

    assert code == 143
    assert "terminated; run the same command again to resume" in bench.errors()
    assert "Traceback" not in bench.errors()
    assert (bench.record.state, bench.record.error, bench.record.owner) == (RunState.STOPPED, None, None)
    assert command_line(bench.arguments("run", "--quiet")) == 0
    assert bench.outcome() == undisturbed.outcome()


def test_a_command_that_begins_anew_does_not_promise_to_resume(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"glorasearch": {}}')
    arguments = [sys.executable, "-m", "glorasearch", "predict", str(tmp_path), "-"]
    with subprocess.Popen(arguments, text=True, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as predicting:
        assert predicting.stderr is not None
        assert "loading torch" in predicting.stderr.readline()
        predicting.send_signal(signal.SIGINT)  # it waits for the list
        assert predicting.wait() == 130
        assert predicting.stderr.read().strip() == "interrupted"
