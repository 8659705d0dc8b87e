"""The figures of a run as JSON, for the browser to draw."""

from __future__ import annotations

import json
import threading
from typing import Any
from urllib.parse import quote

from dashboards.pages.reading import Reader
from glorasearch.db import RunRecord, WorkerStore
from glorasearch.errors import GlorasearchError
from glorasearch.figures import RunFacts, figures_of, theme


class Figures:
    """The figures of a database's runs; those of the latest states are kept. Threads may share it."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._workers = WorkerStore(reader.database)
        self._kept: dict[str, tuple[Any, bytes]] = {}
        self._lock = threading.Lock()

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
