"""Runs are noted of, renamed and removed in Chromium: by our forms and their keys, and in Optuna's own pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from support.browser import ELSEWHERE, NARROW, watched
from support.contrast import TEXT
from support.dashboards import served
from support.places import A, B, C, Place

from glorasearch.db import NoteStore

FORMS = ("note", "rename", "remove")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Two runs that were not computed."""
    found = Place(tmp_path / "workspace")
    found.add("flowers", A, B)
    found.add("birds", A, C)
    return found


@pytest.fixture
def address(place: Place, tmp_path: Path) -> Iterator[str]:
    """Of a dashboard that changes them."""
    with served(tmp_path / "served", *place.options, "--allow-changes", "--allow-host", ELSEWHERE) as found:
        yield found


def note_of(place: Place, run: str) -> str:
    return NoteStore(place.workspace.database).of(run).text


def tab_to(page: Page, name: str) -> None:
    """Go to a link or button with the keyboard alone."""
    for _ in range(60):
        if page.evaluate("document.activeElement.textContent.trim()") == name:
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"no key leads to {name}")


def study_of(page: Page, address: str, run: str) -> int:
    """The id of the run's study in Optuna's list."""
    studies = page.request.get(f"{address}/api/studies").json()["study_summaries"]
    return int(next(one["study_id"] for one in studies if one["study_name"].split(" · ")[0] == run))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_forms_fit_a_telephone_and_are_read(browser: Browser, address: str, scheme: str) -> None:
    with watched(browser, address, size=NARROW, color_scheme=scheme) as page:
        for action in FORMS:
            opened = page.open(f"/runs/flowers/{action}")
            expect(opened.locator("form.edit button[type=submit]")).to_be_visible()
            assert opened.evaluate("document.documentElement.scrollWidth") <= NARROW[0]
            assert [one for one in opened.evaluate(TEXT) if one["ratio"] < one["needed"]] == []


def test_everything_is_done_by_keys(browser: Browser, place: Place, address: str) -> None:
    with watched(browser, address, size=NARROW) as page:
        opened = page.open("/runs/flowers")
        tab_to(opened, "Write a note")
        opened.keyboard.press("Enter")
        expect(opened.get_by_label("Note", exact=True)).to_be_focused()
        opened.keyboard.type("three seeds")
        opened.keyboard.press("Enter")
        opened.keyboard.type("<i>and</i> / more")
        tab_to(opened, "Save")
        opened.keyboard.press("Enter")
        expect(opened.locator(".noted")).to_have_text("three seeds\n<i>and</i> / more")
        assert note_of(place, "flowers") == "three seeds\n<i>and</i> / more"
        tab_to(opened, "Rename")
        opened.keyboard.press("Enter")
        expect(opened.get_by_label("New name")).to_be_focused()
        opened.keyboard.press("ControlOrMeta+a")
        opened.keyboard.type("roses")
        opened.keyboard.press("Enter")
        opened.wait_for_url("**/runs/roses")
        assert place.state[0] == {"roses", "birds"}
        tab_to(opened, "Remove")
        opened.keyboard.press("Enter")
        opened.wait_for_url("**/remove")
        tab_to(opened, "Remove")
        opened.keyboard.press("Enter")  # the browser says that the box has to be ticked
        assert opened.url.endswith("/runs/roses/remove")
        assert place.state[0] == {"roses", "birds"}
        expect(opened.get_by_role("checkbox")).to_be_focused()
        opened.keyboard.press("Space")
        tab_to(opened, "Remove")
        opened.keyboard.press("Enter")
        opened.wait_for_url("**/runs")
        expect(opened.locator("tbody")).not_to_contain_text("roses")
        assert place.state == ({"birds"}, {"birds"}, {"birds"}, {A, C})


def test_two_who_write_at_once_are_told(browser: Browser, place: Place, address: str) -> None:
    with watched(browser, address) as one, watched(browser, address) as other:
        first, second = one.open("/runs/flowers/note"), other.open("/runs/flowers/note")
        first.get_by_label("Note", exact=True).fill("the first")
        first.get_by_role("button", name="Save").click()
        expect(first.locator(".noted")).to_have_text("the first")
        second.get_by_label("Note", exact=True).fill("the second")
        second.get_by_role("button", name="Save").click()
        expect(second.get_by_role("alert")).to_contain_text("changed by somebody else")
        expect(second.locator(".noted")).to_have_text("the first")
        expect(second.get_by_label("Note", exact=True)).to_have_value("the second")
        other.forgive("409")
        second.get_by_role("button", name="Save").click()
        expect(second.locator(".noted")).to_have_text("the second")
        opened = one.open("/runs")
        expect(opened.locator("tr", has_text="flowers")).to_contain_text("the second")


def test_another_page_cannot_send_the_form_and_another_name_of_the_server_can(
    browser: Browser, place: Place, address: str
) -> None:
    port = address.rpartition(":")[2]
    with watched(browser, f"http://{ELSEWHERE}:{port}") as page:  # not trusted: no Sec-Fetch-Site, the Origin counts
        opened = page.open("/runs/flowers/note")
        opened.get_by_label("Note", exact=True).fill("by its other name")
        opened.get_by_role("button", name="Save").click()
        expect(opened.locator(".noted")).to_have_text("by its other name")
        page.forgive("Cross-Origin-Opener-Policy header has been ignored")  # over a network it takes TLS
    forged = (
        f"<form method=post action='{address}/runs/flowers/note'><input name=text value=forged></form>"
        "<script>document.forms[0].submit()</script>"
    )
    with browser.new_context() as context:
        opened = context.new_page()
        opened.goto(f"data:text/html,{forged}")
        expect(opened.locator("body")).to_contain_text("changes are taken from pages of this dashboard")
    assert note_of(place, "flowers") == "by its other name"


def test_optunas_pages_write_the_note_of_the_run(browser: Browser, place: Place, address: str) -> None:
    with watched(browser, address) as page:
        study = study_of(page.page, address, "flowers")
        opened = page.open(f"/dashboard/studies/{study}/note")
        opened.get_by_text("a note of your own goes above this line").wait_for()
        opened.get_by_test_id("EditIcon").first.click()
        editor = opened.locator("textarea").first
        editor.press("ControlOrMeta+Home")
        editor.press_sequentially("written in Optuna\n\n")
        opened.get_by_role("button", name="Save").click()
        expect(opened.get_by_text("Success to save the note")).to_be_visible()
        assert note_of(place, "flowers") == "written in Optuna"
        opened = page.open("/runs/flowers")
        expect(opened.locator(".noted")).to_have_text("written in Optuna")


def test_optunas_list_renames_and_removes_runs(browser: Browser, place: Place, address: str) -> None:
    with watched(browser, address) as page:
        opened = page.open("/dashboard")
        card = opened.locator(".MuiCard-root", has_text="flowers")
        card.get_by_role("button", name="rename study").click()
        name = opened.get_by_label("Study name")  # it takes over what is written a while later
        name.fill("birds · finished")
        expect(opened.get_by_text("is already used")).to_be_visible()
        name.fill("roses")
        expect(opened.get_by_text("is already used")).to_have_count(0)
        opened.get_by_role("dialog").get_by_role("button", name="Rename").click()
        expect(opened.get_by_text("roses · finished")).to_be_visible()
        assert place.state[:3] == ({"roses", "birds"},) * 3
        answers, asked = [False, True], []

        def answer(dialog: object) -> None:
            asked.append(dialog.message)  # type: ignore[attr-defined]
            (dialog.accept if answers.pop(0) else dialog.dismiss)()  # type: ignore[attr-defined]

        opened.on("dialog", answer)
        for left in ({"roses", "birds"}, {"birds"}):
            card = opened.locator(".MuiCard-root", has_text="roses")
            card.get_by_role("button", name="delete study").click()
            opened.get_by_role("dialog").get_by_role("button", name="Yes").click()
            expect(opened.get_by_role("dialog")).to_have_count(0)
            expect(opened.get_by_text("roses · finished")).to_have_count(len(left) - 1)
            assert place.state[0] == left
        assert all("its folder (checkpoints, report, exported model)" in one for one in asked)
        assert len(asked) == 2


def test_without_it_optunas_pages_say_why_they_change_nothing(browser: Browser, place: Place, tmp_path: Path) -> None:
    with served(tmp_path / "served", *place.options) as address, watched(browser, address) as page:
        opened = page.open("/dashboard")
        opened.locator(".MuiCard-root", has_text="flowers").get_by_role("button", name="delete study").click()
        opened.get_by_role("dialog").get_by_role("button", name="Yes").click()
        expect(opened.locator("#refused")).to_contain_text("started with --allow-changes")
        page.forgive("405")
        opened.locator("#refused").get_by_role("button", name="Close").click()
        expect(opened.locator("#refused")).to_have_count(0)
        assert "Write a note" not in page.open("/runs/flowers").content()
    assert place.state[0] == {"flowers", "birds"}
