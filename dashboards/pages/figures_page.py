"""The figures of a run as JSON, for the browser to draw, and as pictures, for pages that are not ours."""

from __future__ import annotations

import json
import threading
from typing import Any, Final
from urllib.parse import quote

from dashboards.pages.reading import Reader
from glorasearch.db import RunRecord, WorkerStore
from glorasearch.errors import GlorasearchError
from glorasearch.figures import Figure, RunFacts, draw, figures_of, theme

_SCALE: Final = 1.5
"""Pixels of a picture for each of the figure. Not SVG: in a font of the browser, its text is cut off."""


class Figures:
    """The figures of a database's runs; those of the latest states are kept. Threads may share it."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._workers = WorkerStore(reader.database)
        self._kept: dict[str, tuple[Any, bytes]] = {}
        self._lock = threading.Lock()
        self._drawn: dict[tuple[str, str], tuple[bytes, bytes]] = {}
        self._drawing = threading.Lock()

    def of(self, record: RunRecord) -> bytes:
        """`{"figures": [...], "themes": {...}}`; an empty list, with the reason, if the run cannot be read."""
        search = self._reader.search(record)
        done = 0 if search is None else sum(one.finished is not None for one in search.trials)
        workers = max((one.updated for one in self._workers.list(record.name)), default=None)
        key = (record.updated, record.state, done, workers)
        with self._lock:
            found = self._kept.get(record.name)
            if found is None or found[0] != key:
                found = self._kept[record.name] = (key, self._make(record))
            return found[1]

    def titles(self, record: RunRecord) -> dict[str, str]:
        """Key → title of the figures that there are."""
        return {one["key"]: one["title"] for one in json.loads(self.of(record))["figures"]}

    def picture(self, record: RunRecord, key: str) -> bytes | None:
        """A figure as PNG, light; drawn when it is asked for and has changed. None if there is none of that key."""
        found = [one for one in json.loads(self.of(record))["figures"] if one["key"] == key]
        if not found:
            return None
        figure = Figure(**found[0])
        drawn_of = json.dumps(figure.spec).encode()
        with self._drawing:
            kept = self._drawn.get((record.name, key))
            if kept is None or kept[0] != drawn_of:
                kept = self._drawn[record.name, key] = (drawn_of, draw(figure, scale=_SCALE))
            return kept[1]

    def _make(self, record: RunRecord) -> bytes:
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
        return json.dumps(content).encode()
