"""The figures of a run's page: what the browser is given, and that Chromium draws it under the pages' policy."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from support.browser import chromium, watched

from dashboards import make_server
from dashboards.pages.figures_page import Figures
from dashboards.pages.reading import Reader
from glorasearch.db import Database, RunStore
from glorasearch.figures import library
from glorasearch.runs.config import RunConfig

EVIL = "a<script>b"


@pytest.fixture
def url(tmp_path: Path) -> str:
    database = Database(f"sqlite:///{tmp_path}/glorasearch.db")
    runs = RunStore(database)
    config = RunConfig.model_validate(
        {"backbone": {"name": "quickstart"}, "data": {"source": "digits"}, "space": {"name": "lean"}}
    )
    runs.create(EVIL, config.model_dump(mode="json"), "d" * 64)
    for step in range(5):
        runs.record_metrics(EVIL, "train", step, {"loss": 2.0 / (step + 1), "lr": 0.01})
    database.close()
    return f"sqlite:///{tmp_path}/glorasearch.db"


def figures(url: str) -> dict[str, Any]:
    reader = Reader(url)
    record = reader.record(EVIL)
    assert record is not None
    found: dict[str, Any] = json.loads(Figures(reader).of(record))
    return found


def test_a_run_has_the_figures_that_it_has_data_for_and_new_data_is_drawn(url: str) -> None:
    found = figures(url)
    assert {"losses", "rates"} <= {one["key"] for one in found["figures"]}
    assert found["themes"]["light"] != found["themes"]["dark"]
    assert not found["problem"]


def test_the_library_is_whole() -> None:
    assert "window.vegaEmbed" in library()


def test_chromium_draws_them_without_eval(url: str) -> None:
    with make_server(url, port=0) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        address = f"http://127.0.0.1:{server.port}"
        try:
            with chromium() as browser, watched(browser, address) as page:
                opened = page.open("/runs/a%3Cscript%3Eb")
                expect(opened.locator("#figure-losses svg.marks")).to_be_visible()
                assert opened.locator("#figures").get_attribute("data-problem") is None
        finally:
            server.stop()
            thread.join()
