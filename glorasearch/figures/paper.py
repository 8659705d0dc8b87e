"""A run as a PDF: result, figures, provenance, run file."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Final

from PIL import Image

from glorasearch.figures.drawn import draw
from glorasearch.figures.facts import RunFacts
from glorasearch.figures.figure import Figure
from glorasearch.figures.told import commands, metrics, provenance, run_files, said, table
from glorasearch.runs.output_rows import output_rows

SCALE: Final = 2
"""Pixels of a picture for each of its figure."""
MM: Final = 0.27
"""Of a pixel of a figure, on paper: 700 of them are as wide as an A4 page between its margins."""
CAPTION: Final = 45
"""mm that title and caption of a figure take."""


def plain(text: str) -> str:
    """Text in letters that all PDF readers have; others as TOML escapes them, so that a run file stays one."""
    return text.encode("latin-1", "backslashreplace").decode("latin-1")


def _size(picture: bytes, width: float, height: float) -> tuple[float, float]:
    """Width and height of a picture, mm: all letters are of one size, unless it would not fit."""
    with Image.open(BytesIO(picture)) as image:
        across, down = (side * MM / SCALE for side in image.size)
    shrunk = min(1.0, width / across, height / down)
    return across * shrunk, down * shrunk


def pdf_report(facts: RunFacts, figures: Sequence[Figure], lacking: Sequence[str]) -> bytes:
    """The document."""
    from fpdf import FPDF

    page = FPDF()
    page.set_auto_page_break(True, margin=15)
    page.add_page()

    def write(text: str, size: int = 10, style: str = "", family: str = "helvetica") -> None:
        page.set_font(family, style, size)
        page.multi_cell(0, size * 0.5, plain(text), align="L",
                        new_x="LMARGIN", new_y="NEXT")  # fmt: skip

    def rows(lines: Sequence[Sequence[str]]) -> None:
        page.set_font("helvetica", "", 8)
        with page.table(text_align="LEFT", first_row_as_headings=False) as made:
            for line in lines:
                made.row([plain(cell) for cell in line])

    record, report = facts.record, facts.report
    write(record.name, 18, "B")
    write(f"{record.state}{f': {record.error}' if record.error else ''}")
    if facts.note:
        write(facts.note, 10, "I")
    if report is not None:
        for line in said(report):
            write(line)
        write("Test images", 14, "B")
        rows([("method", "parameters", "test", "95 % interval"), *table(report, facts.tested)])
        for found in (metrics(report), output_rows(report)):
            if found:
                page.ln(4)
                rows(found)
    for figure in figures:
        picture = draw(figure, scale=SCALE)
        width, height = _size(picture, page.epw, page.eph - CAPTION)
        if page.will_page_break(height + CAPTION):
            page.add_page()
        page.ln(4)
        write(figure.title, 14, "B")
        page.image(BytesIO(picture), w=width, h=height)
        write(figure.caption, 9)
    page.add_page()
    for line in lacking:
        write(f"Not drawn: {line}", 9)
    write("Provenance", 14, "B")
    rows(provenance(facts))
    write("Again", 14, "B")
    write("\n".join(commands(facts)), 8, "", "courier")
    for file, content in run_files(facts):
        write(file, 10, "B")
        write(content, 8, "", "courier")
    return bytes(page.output())
