"""Optuna's pages over a finished run."""

from __future__ import annotations

from playwright.sync_api import expect
from support.browser import Watched, until


def test_the_list_and_the_study_open(watch: Watched) -> None:
    page = watch.open("/dashboard")
    page.get_by_text("tiny").first.click()
    expect(page.get_by_text("Best Trial").first).to_be_visible()
    expect(page.locator(".scatterlayer .point").first).to_be_visible()


def test_the_figures_of_our_pages_are_drawn_in_the_note(watch: Watched) -> None:
    page = watch.open("/dashboard")
    page.get_by_text("tiny").first.click()
    expect(page.get_by_text("Best Trial").first).to_be_visible()
    page.goto(f"{page.url.rstrip('/')}/note")
    for title in ("The winner, gene by gene", "Score against parameters", "Losses"):
        picture = page.get_by_alt_text(title)
        expect(picture).to_be_visible()
        until(lambda one=picture: one.evaluate("image => image.complete"), page, title)  # type: ignore[misc]
        assert picture.evaluate("image => image.naturalWidth") > 300
