"""Text in the figures of a run, light and dark."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect
from support.browser import watched
from support.contrast import DRAWN
from support.runs import NAME


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_in_drawings_has_the_contrast_of_level_aa(browser: Browser, dashboard: str, scheme: str) -> None:
    with watched(browser, dashboard, color_scheme=scheme) as page:
        opened = page.open(f"/runs/{NAME}")
        figures = opened.request.get(f"{opened.url}/figures.json").json()["figures"]
        for figure in figures:
            expect(opened.locator(f"#figure-{figure['key']} svg.marks")).to_be_visible()
        seen = opened.evaluate(DRAWN)
        assert len(seen) > 50
        assert {one["figure"] for one in seen} == {f"figure-{figure['key']}" for figure in figures}
        assert [one for one in seen if one["ratio"] < one["needed"]] == []
