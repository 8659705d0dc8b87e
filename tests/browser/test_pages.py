"""Our own pages over a finished run: they open without a fault, draw, fit a telephone, are read and used by keys."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect
from support.browser import NARROW, Watched, watched
from support.contrast import TEXT
from support.runs import NAME

PAGES = ("/runs", f"/runs/{NAME}", f"/runs/{NAME}/trials", f"/runs/{NAME}/trials/1", f"/compare?run={NAME}")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_opens_without_a_fault_and_fits_a_telephone(browser: Browser, dashboard: str, path: str) -> None:
    with watched(browser, dashboard, size=NARROW) as page:
        opened = page.open(path)
        expect(opened.locator("h1")).to_be_visible()
        if path == f"/runs/{NAME}":
            expect(opened.locator(".drawing svg.marks").first).to_be_visible()
        assert opened.evaluate("document.documentElement.scrollWidth") <= NARROW[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_level_aa(browser: Browser, dashboard: str, scheme: str) -> None:
    papers = set()
    with watched(browser, dashboard, color_scheme=scheme) as page:
        for path in PAGES:
            seen = page.open(path).evaluate(TEXT)
            assert len(seen) > 10
            assert [one for one in seen if one["ratio"] < one["needed"]] == []
            papers.add(page.page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))
    assert papers == {"rgb(252, 252, 250)" if scheme == "light" else "rgb(20, 21, 18)"}


def test_every_figure_is_drawn(watch: Watched) -> None:
    page = watch.open(f"/runs/{NAME}")
    figures = page.request.get(f"{page.url}/figures.json").json()["figures"]
    assert {"losses", "rates"} < {figure["key"] for figure in figures}
    for figure in figures:
        drawing = page.locator(f"#figure-{figure['key']} .drawing")
        expect(drawing.locator("svg.marks, canvas.marks")).to_be_visible()
        assert drawing.locator(":is(.mark-line, .mark-symbol, .mark-rect, .mark-rule, .mark-area) path").count()
    assert page.locator("#figures").get_attribute("data-problem") is None


def test_a_table_is_sorted_by_keys_and_the_focus_is_seen(watch: Watched) -> None:
    page = watch.open(f"/runs/{NAME}/trials")
    head = page.locator("th[data-kind=number]").first
    for _ in range(40):
        page.keyboard.press("Tab")
        if head.evaluate("head => head.contains(document.activeElement)"):
            break
    button = head.locator("button")
    expect(button).to_be_focused()
    assert button.evaluate("it => getComputedStyle(it).outlineStyle") == "solid"
    orders = []
    for said in ("descending", "ascending"):
        page.keyboard.press("Enter")
        expect(head).to_have_attribute("aria-sort", said)
        orders.append([float(text) for text in page.locator("tbody tr > :first-child").all_inner_texts()])
    assert len(orders[0]) > 2
    assert orders == [sorted(orders[1], reverse=True), sorted(orders[0])]


def test_the_keys_of_filter_and_neighbours(watch: Watched) -> None:
    page = watch.open(f"/runs/{NAME}/trials/1")
    page.keyboard.press("ArrowRight")
    page.wait_for_url(f"**/runs/{NAME}/trials/2")
    watch.open("/runs")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("no such run")
    expect(page.get_by_role("link", name=NAME)).to_have_count(0)
