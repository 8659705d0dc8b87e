"""Without a pointer: everything can be reached, and what has the focus is seen."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect
from support.browser import watched
from support.contrast import CONTROLS, FOCUSED
from support.runs import NAME


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/runs", f"/runs/{NAME}", f"/runs/{NAME}/trials/1", f"/compare?run={NAME}"])
def test_every_control_is_reached_and_its_focus_is_seen(
    browser: Browser, dashboard: str, path: str, scheme: str
) -> None:
    with watched(browser, dashboard, color_scheme=scheme) as page:
        opened = page.open(path)
        if path == f"/runs/{NAME}":  # points of the figures are links, and the figures are drawn after the page
            for figure in opened.request.get(f"{opened.url}/figures.json").json()["figures"]:
                expect(opened.locator(f"#figure-{figure['key']} svg.marks")).to_be_visible()
        found = opened.evaluate(CONTROLS)
        controls = found["usable"]
        assert len(controls) >= 5
        reached, faint = set(), []
        for _ in range(len(controls) + 20):  # what scrolls has the focus, too
            opened.keyboard.press("Tab")
            focused = opened.evaluate(FOCUSED)
            if focused["number"] is None:
                continue
            reached.add(int(focused["number"]))
            if focused["ring"] < 3 or focused["box"]["width"] == 0:
                faint.append(focused)
        assert [controls[number] for number in set(range(len(controls))) - reached] == []
        assert faint == []
        if found["left"]:  # the points of a drawing: their trials are a table, too
            opened.goto(f"{dashboard}/runs/{NAME}/trials")
            links = opened.locator("table a[href]").evaluate_all("all => all.map((one) => one.getAttribute('href'))")
            assert set(found["left"]) <= set(links)
