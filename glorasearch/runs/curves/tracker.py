"""Curves for a tracker, which may be slow or gone: by a thread of their own, which the run never waits for."""

from __future__ import annotations

import logging
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

from glorasearch.errors import reason
from glorasearch.runs.curves.curves import Table
from glorasearch.runs.curves.rows import Row

_log = logging.getLogger(__name__)
PATIENCE: Final = 60.0
"""Seconds that the end of a run waits for what has not been taken yet."""
PATIENCE_WHEN_STOPPED: Final = 20.0
"""Likewise of a run that was stopped, or has failed."""
AT_ONCE: Final = 100
"""Rows that are sent together, at most."""

Point = tuple[str, int, str]
"""Stage, step and name of a number."""


class Tracker(ABC):
    """Sends each point once; points that the tracker has of earlier processes are not sent again."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Row | str] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"curves to {self.place}", daemon=True)
        self._begun = self._over = False

    @property
    @abstractmethod
    def place(self) -> str:
        """The tracker, for messages."""

    @abstractmethod
    def connect(self) -> None:
        """Begin or resume the run there. Called by the thread, as are those below."""

    @abstractmethod
    def has(self, point: Point) -> bool:
        """Whether the run there had a point when it was resumed."""

    @abstractmethod
    def send(self, rows: Sequence[Row]) -> None:
        """Add points."""

    @abstractmethod
    def end(self, state: str) -> None:
        """End the run there."""

    def append(self, row: Row, table: Table) -> None:
        """Add points, soon."""
        if not self._over:
            self._queue.put(row)

    def rewrite(self, table: Table) -> None:
        """Add those points that are not there, soon; what is there stays as it is."""
        for rows in table.values():
            for step in sorted(rows):
                self.append(rows[step], table)
        if not self._begun:
            self._begun = True
            self._thread.start()

    def close(self, state: str) -> None:
        """Wait until all points are there, but not for long."""
        if not self._begun:
            return
        self._queue.put(state)
        patience = PATIENCE if state == "finished" else PATIENCE_WHEN_STOPPED
        self._thread.join(patience)
        if self._thread.is_alive():
            _log.warning("curves: %s did not take all points within %.0f s", self.place, patience)

    def _work(self) -> None:
        sent: set[Point] = set()
        try:
            self.connect()
            while True:
                rows, state = self._waiting()
                fresh = [one for row in rows if (one := self._unsent(row, sent)) is not None]
                if fresh:
                    self.send(fresh)
                if state is not None:
                    self.end(state)
                    return
        except Exception as error:
            _log.warning(
                "curves: %s does not take them (%s); the run goes on without, and its numbers are in the database",
                self.place,
                reason(error),
            )
        finally:
            self._over = True

    def _waiting(self) -> tuple[list[Row], str | None]:
        """What is in the queue, at least one thing; and the state if the run has ended."""
        rows: list[Row] = []
        while not rows or (not self._queue.empty() and len(rows) < AT_ONCE):
            item = self._queue.get()
            if isinstance(item, str):
                return rows, item
            rows.append(item)
        return rows, None

    def _unsent(self, row: Row, sent: set[Point]) -> Row | None:
        points = {name: (row.stage, row.step, name) for name in row.values}
        values = {name: row.values[name] for name, point in points.items() if point not in sent and not self.has(point)}
        sent.update(points.values())
        return Row(row.stage, row.step, values, row.time) if values else None
