"""The harness finds what it is there to find: each kind of fault is made once, in a page of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser
from support import browser as harness
from support.browser import Watched, watched
from support.processes import free_ports


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("console.error('wrong')", "console error: wrong"),
        ("console.warn('odd')", "console warning: odd"),
        ("setTimeout(() => { throw new Error('thrown') })", "error of a script: thrown"),
        ("fetch('http://127.0.0.1:61999/x').catch(() => 0)", "request to another host: http://127.0.0.1:61999/x"),
        ("fetch('/api/studies/999').catch(() => 0)", "answer 404"),
    ],
)
def test_a_fault_is_found(browser: Browser, dashboard: str, script: str, found: str) -> None:
    with watched(browser, dashboard, bypass_csp=True) as page:
        page.open("/api/studies")  # a document of the server that has no script of its own
        page.page.evaluate(f"() => {{ {script} }}")
        harness.until(lambda: any(found in fault for fault in page.faults), page.page)
        with pytest.raises(AssertionError, match=r"127\.0\.0\.1"):
            page.check()
        page.faults.clear()


def test_a_server_that_is_not_there_is_found(browser: Browser) -> None:
    (port,) = free_ports(1)
    with watched(browser, f"http://127.0.0.1:{port}") as page:
        with pytest.raises(harness.Error, match="ERR_CONNECTION_REFUSED"):
            page.open("/")
        page.forgive("no answer")


def test_loads_are_counted(watch: Watched) -> None:
    watch.open("/api/studies")
    assert watch.loads == 1
    watch.page.reload()
    assert watch.loads == 2


def test_a_machine_without_a_browser_skips_or_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("GLORASEARCH_BROWSER", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no Chromium on this machine"):
        harness.find_chromium()
    monkeypatch.setenv("GLORASEARCH_BROWSER", "required")
    with pytest.raises(FileNotFoundError, match="GLORASEARCH_BROWSER=required"):
        harness.find_chromium()
