"""The files of a run that a page offers, out of its folder."""

from __future__ import annotations

from typing import Final

from dashboards.pages.reading import Reader

FILES: Final = {
    "report.json": "application/json; charset=utf-8",
    "predictions.csv": "text/csv; charset=utf-8",
    "splits.csv": "text/csv; charset=utf-8",
}
"""Name → type; nothing else of the folder is read."""


def offered(reader: Reader, run: str) -> list[str]:
    """The files that are there."""
    folder = None if reader.folder is None or reader.record(run) is None else reader.folder / run
    return [] if folder is None else [name for name in FILES if (folder / name).is_file()]


def read_file(reader: Reader, run: str, name: str) -> bytes | None:
    """A file of a recorded run; None if it is not offered or not there."""
    if name not in offered(reader, run) or reader.folder is None:
        return None
    return (reader.folder / run / name).read_bytes()
