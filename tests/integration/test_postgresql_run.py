"""The command line on PostgreSQL: a run that is killed (SIGKILL) and goes on ends as the undisturbed one on SQLite."""

from __future__ import annotations

import json
import signal
import threading
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from dashboards.app import make_server
from glorasearch.cli.main import run as command_line
from glorasearch.db import RunState

Bench = Any
MakeBench = Callable[..., Bench]


def test_a_killed_run_ends_as_on_sqlite(
    make_bench: MakeBench, undisturbed: Bench, postgresql_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = make_bench(server_url=postgresql_url)
    code = bench.stop_when(lambda: bench.trials() >= 17, bench.start())
    assert (code, bench.record.state) == (-signal.SIGKILL, RunState.INTERRUPTED)
    errors = bench.finish()
    assert "search: resumes at trial " in errors

    assert bench.outcome() == undisturbed.outcome()

    assert not (bench.workspace / "glorasearch.db").exists()
    check_commands(bench, capsys)
    check_dashboard(bench)


def check_commands(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that only look work on the server, too."""
    for command in (["runs"], ["show", bench.record.name], ["compare", bench.record.name]):
        assert command_line([*command, *bench.place, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)


def check_dashboard(bench: Bench) -> None:
    """It serves the study, with all its trials."""
    with make_server(bench.database_url, port=0) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/api/studies/1", timeout=60) as answer:
                study = json.load(answer)
        finally:
            server.stop()
            thread.join()
    assert (study["name"], len(study["trials"])) == (f"{bench.record.name} · finished", 48)
