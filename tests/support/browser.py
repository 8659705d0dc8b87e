"""The system's Chromium, driven by Playwright, and pages that take note of everything that goes wrong in them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request, Response, expect, sync_playwright

from support.processes import DEADLINE_SECONDS

__all__ = [
    "ELSEWHERE",
    "NARROW",
    "WIDE",
    "Browser",
    "Error",
    "Watched",
    "chromium",
    "find_chromium",
    "until",
    "watched",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDE, NARROW = (1280, 900), (390, 844)
"""Width and height of the window, of a laptop and of a telephone, in pixels."""
ELSEWHERE = "gpu1.test"
"""A name by which the browser reaches this machine, as if it were another one: less is trusted than of 127.0.0.1."""
expect.set_options(timeout=1000 * DEADLINE_SECONDS)  # the first drawing of a server takes many seconds


def find_chromium() -> str:
    """The path of Chromium. Without one the test is skipped, or fails where `GLORASEARCH_BROWSER=required`."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        reason = f"no Chromium on this machine: none of {', '.join(NAMES)} is on the path"
        if os.environ.get("GLORASEARCH_BROWSER") == "required":
            raise FileNotFoundError(f"{reason}, and GLORASEARCH_BROWSER=required")
        pytest.skip(reason)
    return path


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium. As long as it is open, nothing else in this thread can run an event loop."""
    # A sandbox needs rights that containers, where one is root, do not give; /dev/shm of a container is small.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    path = find_chromium()
    with sync_playwright() as playwright:
        arguments += ["--disable-dev-shm-usage", f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1"]
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


def until(condition: Callable[[], bool], page: Page, what: str = "something") -> None:
    """Check a condition again and again until it holds, while the page goes on."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        page.wait_for_timeout(20)


@dataclass
class Watched:
    """A page of the browser, and what went wrong in it."""

    page: Page
    host: str
    """Host and port of the server; a request to any other is a fault."""
    faults: list[str] = field(default_factory=list)
    loads: int = 0
    """Documents that the page has loaded: one more for each navigation or reload."""

    def __post_init__(self) -> None:
        self.page.set_default_timeout(1000 * DEADLINE_SECONDS)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(f"error of a script: {error}"))
        self.page.on("request", self._request)
        self.page.on("requestfailed", self._failed)
        self.page.on("response", self._response)

    def open(self, path: str) -> Page:
        """Go to a path of the server, and wait until what it shows at first is there."""
        self.page.goto(f"http://{self.host}{path}", wait_until="load")
        return self.page

    def forgive(self, *parts: str) -> None:
        """Take away the faults that contain all of these; there must be one."""
        left = [fault for fault in self.faults if not all(part in fault for part in parts)]
        assert len(left) < len(self.faults), f"no fault has {parts}: {self.faults}"
        self.faults = left

    def check(self) -> None:
        """Fails if anything went wrong so far."""
        assert self.faults == [], f"{self.page.url}: {self.faults}"

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            self.faults.append(f"console {message.type}: {message.text} ({message.location.get('url')})")

    def _request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob") and address.netloc != self.host:
            self.faults.append(f"request to another host: {request.url}")
        self.loads += request.is_navigation_request() and request.frame == self.page.main_frame

    def _failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # by going to another page
            self.faults.append(f"no answer: {request.url}: {request.failure}")

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self.faults.append(f"answer {response.status}: {response.url}")


@contextmanager
def watched(browser: Browser, address: str, **context: Any) -> Iterator[Watched]:
    """A page in a context of its own, as `Browser.new_context` takes it; at its end nothing may have gone wrong."""
    width, height = context.pop("size", WIDE)
    with browser.new_context(viewport={"width": width, "height": height}, **context) as opened:
        page = Watched(opened.new_page(), urlsplit(address).netloc)
        yield page
        page.check()
