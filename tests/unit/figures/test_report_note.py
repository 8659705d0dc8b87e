"""The note of a run in its report."""

from __future__ import annotations

from pathlib import Path

from glorasearch.db import Database, NoteStore, RunStore
from glorasearch.figures import RunFacts
from glorasearch.figures.html import html_report
from glorasearch.figures.paper import pdf_report


def test_the_note_stands_at_the_head_of_the_report(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/glorasearch.db")
    RunStore(database).create("run", {}, "")
    assert '<p class="note">' not in html_report(RunFacts.read(database, "run"), (), ())
    short = pdf_report(RunFacts.read(database, "run"), (), ())
    NoteStore(database).write("run", "<b>three</b> seeds\nand more")
    facts = RunFacts.read(database, "run")
    page = html_report(facts, (), ())
    assert '<p class="note">&lt;b&gt;three&lt;/b&gt; seeds\nand more</p>' in page
    assert page.index("</h1>") < page.index('class="note"') < page.index("<h2>Provenance")
    paper = pdf_report(facts, (), ())
    assert paper.startswith(b"%PDF")
    assert len(paper) > len(short)
    database.close()
