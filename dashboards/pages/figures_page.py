"""The figures of a run as JSON, for the browser to draw, and as pictures, for pages that are not ours."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from dashboards.pages.reading import Reader
from dashboards.pages.trial_page import drawing
from glorasearch.db import RunRecord, WorkerStore
from glorasearch.errors import GlorasearchError
from glorasearch.figures import Figure, RunFacts, draw, figures_of, theme

_SCALE: Final = 1.5
"""Pixels of a picture for each of the figure. Not SVG: in a font of the browser, its text is cut off."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """The figures of a run in one of its states."""

    state: Any
    figures: dict[str, Figure]
    content: bytes
    """As JSON."""


class Figures:
    """The figures of a database's runs; those of the latest states are kept. Threads may share it."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._workers = WorkerStore(reader.database)
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.Lock()
        self._drawn: dict[tuple[str, str], tuple[Figure, bytes]] = {}
        self._drawing = threading.Lock()

    def of(self, record: RunRecord) -> bytes:
        """`{"figures": [...], "themes": {...}}`; an empty list, with the reason, if the run cannot be read."""
        return self._now(record).content

    def titles(self, record: RunRecord) -> dict[str, str]:
        """Key → title of the figures that there are."""
        return {key: figure.title for key, figure in self._now(record).figures.items()}

    def picture(self, record: RunRecord, key: str) -> bytes | None:
        """A figure as PNG, light; drawn when it is asked for and has changed. None if there is none of that key."""
        figure = self._now(record).figures.get(key)
        if figure is None:
            return None
        with self._drawing:
            kept = self._drawn.get((record.name, key))
            if kept is None or kept[0].spec != figure.spec:
                kept = self._drawn[record.name, key] = (figure, draw(figure, scale=_SCALE))
            return kept[1]

    def trial(self, record: RunRecord, number: int) -> bytes | None:
        """The subnet of a trial as PNG, light, drawn when it is asked for; None if there is nothing to draw."""
        figure = drawing(self._reader, record, number)
        with self._drawing:
            return None if figure is None else draw(figure, scale=_SCALE)

    def _now(self, record: RunRecord) -> _Kept:
        search = self._reader.search(record)
        done = 0 if search is None else sum(one.finished is not None for one in search.trials)
        workers = max((one.updated for one in self._workers.list(record.name)), default=None)
        state = (record.updated, record.state, done, workers)
        with self._lock:
            found = self._kept.get(record.name)
            if found is None or found.state != state:
                found = self._kept[record.name] = self._make(record, state)
            return found

    def _make(self, record: RunRecord, state: Any) -> _Kept:
        def link(number: int) -> str:
            return f"/runs/{quote(record.name, safe='')}/trials/{number}"

        folder = None if self._reader.folder is None else self._reader.folder / record.name
        problem = ""
        try:
            drawn = figures_of(RunFacts.read(self._reader.database, record.name, folder), trial_link=link)
        except GlorasearchError as error:
            drawn, problem = [], str(error)
        content = {
            "figures": [one.to_json() for one in drawn],
            "problem": problem,
            "themes": {"light": theme("light"), "dark": theme("dark")},
        }
        return _Kept(state, {one.key: one for one in drawn}, json.dumps(content).encode())
