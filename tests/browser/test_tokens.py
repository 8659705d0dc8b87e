"""A dashboard with a token: a wrong one is refused in words, the right one opens the page that was asked for."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, expect
from support.browser import watched
from support.contrast import TEXT
from support.dashboards import served
from support.runs import NAME, Bench

TOKEN = "a token of the tests, long enough"


def test_a_wrong_token_is_refused_and_the_right_one_opens(browser: Browser, finished: Bench, tmp_path: Path) -> None:
    place = served(tmp_path, *finished.place, GLORASEARCH_DASHBOARD_TOKEN=TOKEN)
    with place as address, watched(browser, address) as page:
        opened = page.open(f"/runs/{NAME}")
        expect(opened.get_by_text(NAME)).to_have_count(0)
        assert [one for one in opened.evaluate(TEXT) if one["ratio"] < one["needed"]] == []
        opened.get_by_label("Token").fill(f"not {TOKEN}")
        opened.keyboard.press("Enter")
        expect(opened.get_by_text("This is not the token.")).to_be_visible()
        page.forgive("401")  # the refusal, and the browser's note of it
        opened.get_by_label("Token").fill(TOKEN)
        opened.get_by_role("button", name="Sign in").click()
        expect(opened.locator(".drawing svg.marks").first).to_be_visible()
        assert opened.url == f"{address}/runs/{NAME}"
        assert TOKEN not in str(opened.context.cookies())
