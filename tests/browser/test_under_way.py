"""A run under way: what it does appears on pages that are open, without a reload."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from support.browser import until, watched
from support.dashboards import ENDLESS, run_file, served
from support.runs import NAME, Bench

from glorasearch.db import RunState, RunStore


@pytest.fixture
def searching(tmp_path: Path) -> Iterator[Bench]:
    """A run in another process, whose search has begun and does not end."""
    bench = Bench(tmp_path / "workspace", run_file(tmp_path), ENDLESS)
    try:
        process = bench.start()
        bench.wait_until(lambda: bench.trials() > 0, process)
        yield bench
    finally:
        bench.end_all()


def test_new_trials_appear_without_a_reload(browser: Browser, searching: Bench, tmp_path: Path) -> None:
    with served(tmp_path / "served", *searching.place) as address, watched(browser, address) as page:
        opened = page.open(f"/runs/{NAME}")
        expect(opened.locator("h1")).to_contain_text("running")
        search = opened.get_by_role("region", name="Stages").locator("tr", has_text="search").first
        before = search.inner_text()
        last = searching.trials()
        until(lambda: search.inner_text() != before, opened, "the search to go on")
        link = opened.locator(f"a[href^='/runs/{NAME}/trials/']")
        numbers = "links => links.map((link) => Number(link.getAttribute('href').split('/').pop()))"
        until(lambda: max(link.evaluate_all(numbers), default=0) > last, opened, f"a trial after {last}")
        cell = opened.locator("#figure-workers svg text", has_text="%").first
        expect(cell).to_be_visible()
        chart = opened.locator("#figure-workers svg")
        done = chart.text_content()
        until(lambda: chart.count() == 1 and chart.text_content() != done, opened, "the map of workers")
        assert page.loads == 1


def test_a_run_that_begins_is_soon_in_the_list(browser: Browser, tmp_path: Path) -> None:
    runs = RunStore(f"sqlite:///{tmp_path}/glorasearch.db")
    runs.create("first", {}, "")
    runs.set_state("first", RunState.STOPPED)
    with served(tmp_path / "served", "--workspace", str(tmp_path)) as address, watched(browser, address) as page:
        opened = page.open("/runs")
        expect(opened.locator("tbody")).to_contain_text("first")
        runs.create("second", {}, "")
        expect(opened.locator("tbody")).to_contain_text("second", timeout=10_000)
        assert page.loads == 1
    runs.database.close()


def test_the_page_of_a_run_that_was_removed_says_so(browser: Browser, tmp_path: Path) -> None:
    runs = RunStore(f"sqlite:///{tmp_path}/glorasearch.db")
    runs.create("first", {}, "")
    with served(tmp_path / "served", "--workspace", str(tmp_path)) as address:
        opened = browser.new_page()  # a request that is answered by 404 is a line in the console
        opened.goto(f"{address}/runs/first")
        runs.delete("first")
        expect(opened.locator("#live")).to_contain_text("no longer there", timeout=10_000)
        opened.close()
    runs.database.close()
