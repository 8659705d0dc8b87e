"""A finished run, a dashboard process that shows it, and Chromium to look at it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from support.browser import Watched, chromium, watched
from support.dashboards import finished_run, served
from support.runs import Bench


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A folder that all processes of pytest-xdist share."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if hasattr(request.config, "workerinput") else base) / "browser"


@pytest.fixture(scope="session")
def finished(shared: Path) -> Bench:
    """A small finished run; not to be changed by any test."""
    return finished_run(shared)


@pytest.fixture(scope="session")
def dashboard(finished: Bench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a dashboard over the finished run."""
    with served(tmp_path_factory.mktemp("dashboard"), *finished.place) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for the tests of a file: as long as it is open, tests of other kinds cannot run event loops."""
    with chromium() as opened:
        yield opened


@pytest.fixture
def watch(browser: Browser, dashboard: str) -> Iterator[Watched]:
    """A page of the dashboard; a console message, an error or a request to another host fails the test."""
    with watched(browser, dashboard) as page:
        yield page
