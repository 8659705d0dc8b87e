"""Figures of a run: their text in light and dark, and how they fit a laptop and a telephone."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect
from support.browser import NARROW, WIDE, watched
from support.contrast import DRAWN
from support.runs import NAME

CUT_OFF = """() => [...document.querySelectorAll("figure.drawn")].flatMap((figure) => {
  const drawing = figure.querySelector(".drawing"), frame = drawing.querySelector("svg.marks").getBoundingClientRect();
  const outside = [...drawing.querySelectorAll("svg text")].filter((one) => {
    const box = one.getBoundingClientRect();
    return one.textContent.trim() && one.checkVisibility({ opacityProperty: true }) &&
      (box.left < frame.left - 1 || box.right > frame.right + 1);
  }).map((one) => `${figure.id}: ${one.textContent}`);
  return drawing.scrollWidth > drawing.clientWidth + 1 ? [`${figure.id} is too wide`, ...outside] : outside;
})"""


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


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_nothing_in_a_figure_is_cut_off(browser: Browser, dashboard: str, size: tuple[int, int]) -> None:
    with watched(browser, dashboard, size=size) as page:
        opened = page.open(f"/runs/{NAME}")
        figures = opened.request.get(f"{opened.url}/figures.json").json()["figures"]
        for figure in figures:
            expect(opened.locator(f"#figure-{figure['key']} svg.marks")).to_be_visible()
        assert len(figures) > 10
        assert opened.evaluate(CUT_OFF) == []
        panels = opened.locator("#figure-losses svg .mark-group.role-scope.cell > g").evaluate_all(
            "all => all.map((one) => Math.round(one.getBoundingClientRect().left))"
        )
        assert len(set(panels)) == (2 if size == WIDE else 1), "panels beside each other, or below"
