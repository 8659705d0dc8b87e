"""How often a run may write what only those who watch it read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

INTERVAL: Final = 1.0
"""Seconds between two writes, at least."""
SHARE: Final = 1 / 200
"""Of a stage's time that its writes may take."""
LONGEST_PAUSE: Final = 60.0
"""Seconds between two writes, at most."""


class Throttle:
    """Says when it is time to write: the longer a write takes, the rarer."""

    def __init__(self, interval: float = INTERVAL) -> None:
        """With an interval of 0 it always is."""
        self._interval, self._due = interval, 0.0

    @property
    def due(self) -> bool:
        """Whether it is time."""
        return time.monotonic() >= self._due

    @contextmanager
    def write(self) -> Iterator[None]:
        """Take the time of a write."""
        began = time.monotonic()
        try:
            yield
        finally:
            now = time.monotonic()
            rest = max(self._interval, min(LONGEST_PAUSE, (now - began) / SHARE))
            self._due = now + rest if self._interval else now
