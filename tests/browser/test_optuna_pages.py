"""Optuna's pages over a finished run."""

from __future__ import annotations

from playwright.sync_api import expect
from support.browser import Watched


def test_the_list_and_the_study_open(watch: Watched) -> None:
    page = watch.open("/dashboard")
    page.get_by_text("tiny").first.click()
    expect(page.get_by_text("Best Trial").first).to_be_visible()
    expect(page.locator(".scatterlayer .point").first).to_be_visible()
