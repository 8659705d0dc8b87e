"""Optuna's pages over a finished run."""

from __future__ import annotations

from playwright.sync_api import expect
from support.browser import Watched, until


def test_the_list_and_the_study_open(watch: Watched) -> None:
    page = watch.open("/dashboard")
    page.get_by_text("tiny").first.click()
    expect(page.get_by_text("Best Trial").first).to_be_visible()
    expect(page.locator(".scatterlayer .point").first).to_be_visible()


def test_the_figures_of_the_run_are_drawn_in_the_note(watch: Watched) -> None:
    page = watch.open("/runs/tiny")
    figures = page.request.get(f"{page.url}/figures.json").json()["figures"]
    host = f"http://{watch.host}"
    (study,) = page.request.get(f"{host}/api/studies").json()["study_summaries"]
    watch.open(f"/dashboard/studies/{study['study_id']}/note")
    pictures = page.locator("img[src*='/figures/']")
    expect(pictures).to_have_count(len(figures))
    until(lambda: all(pictures.evaluate_all("all => all.map(one => one.naturalWidth > 100)")), page, "the pictures")
    addresses = pictures.evaluate_all("all => all.map(one => one.src)")
    assert addresses == [f"{host}/runs/tiny/figures/{figure['key']}.png" for figure in figures]
    assert pictures.evaluate_all("all => all.map(one => one.alt)") == [figure["title"] for figure in figures]


def test_a_trial_has_its_genes_in_words_and_as_a_picture(watch: Watched) -> None:
    host = f"http://{watch.host}"
    page = watch.open("/dashboard")
    (study,) = page.request.get(f"{host}/api/studies").json()["study_summaries"]
    watch.open(f"/dashboard/studies/{study['study_id']}/trials?numbers=1")
    picture = page.locator("img[src$='/trials/1/genes.png']")
    expect(picture).to_have_count(1)
    until(lambda: bool(picture.evaluate("one => one.naturalWidth > 100")), page, "the picture")
    expect(page.get_by_text("of the layers").first).to_be_visible()
    page.get_by_role("link", name="The page of the trial").click()
    expect(page).to_have_url(f"{host}/runs/tiny/trials/1")


def test_links_in_notes_are_read_in_both_looks(watch: Watched) -> None:
    host = f"http://{watch.host}"
    for look in ("light", "dark"):
        watch.page.emulate_media(color_scheme=look)
        page = watch.open("/dashboard")
        (study,) = page.request.get(f"{host}/api/studies").json()["study_summaries"]
        watch.open(f"/dashboard/studies/{study['study_id']}/note")
        link = page.get_by_role("link", name="The page of the run")
        expect(link).to_be_visible()
        colour = "one => getComputedStyle(one).color"
        assert link.evaluate(colour) == link.locator("..").evaluate(colour)
