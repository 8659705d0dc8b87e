"""A pytest plugin, `-p gpu_tests.recorder`: a line of JSON for each test that is found, begins or ends.

The environment names the file.
"""

from __future__ import annotations

import os
from typing import Any, Final

import pytest

from gpu_tests.record import append

RECORD: Final = "GPU_TESTS_RECORD"
"""The variable with the file's path."""
MESSAGE: Final = 4000
"""Characters of a failure that are kept, its last ones."""

_outcomes: dict[str, tuple[str, str]] = {}
"""Of the test under way: verdict and message."""


def say(event: str, test: str, **more: Any) -> None:
    """Append a line."""
    append(os.environ[RECORD], event, test, **more)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A file that cannot be imported, or that says itself that it does not run here."""
    if report.outcome != "passed":
        say("broken", report.nodeid, verdict=report.outcome, message=_text(report))


def pytest_collection_finish(session: pytest.Session) -> None:
    """What there is, and how many cards it needs."""
    if session.config.option.collectonly:
        for item in session.items:
            cards = 2 if item.get_closest_marker("two_gpus") else 1
            say("found", item.nodeid, file=item.nodeid.partition("::")[0], cards=cards)


def pytest_runtest_logstart(nodeid: str) -> None:
    """A test begins."""
    say("begun", nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """One of its three parts is over: the worst of them counts."""
    if report.failed or (report.skipped and report.nodeid not in _outcomes):
        _outcomes[report.nodeid] = report.outcome, _text(report)


def pytest_runtest_logfinish(nodeid: str) -> None:
    """It has ended."""
    verdict, message = _outcomes.pop(nodeid, ("passed", ""))
    say("ended", nodeid, verdict=verdict, message=message)


def _text(report: pytest.CollectReport | pytest.TestReport) -> str:
    if report.skipped and isinstance(report.longrepr, tuple):
        return report.longrepr[2]
    return str(report.longrepr or "")[-MESSAGE:]
