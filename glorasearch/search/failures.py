"""When a search has failed too often to go on."""

from __future__ import annotations

from collections import deque
from typing import Final

from glorasearch.search.config import SearchConfig

WINDOW: Final = 10
"""The fewest evaluations of which a share of failures is taken."""


class FailureGuard:
    """Counts failed evaluations: in each batch, or in steady mode among as many of the last ones as a batch has.

    A batch too small for a share is judged by the last 10 evaluations: all of them have to fail. And if the first 10
    evaluations of a search fail, all others are not waited for.
    """

    def __init__(self, config: SearchConfig) -> None:
        self._share = config.max_failure_share
        self._small: deque[bool] = deque(maxlen=WINDOW)
        self._window: deque[bool] = deque(maxlen=max(WINDOW, config.batch_size))
        self._size = max(WINDOW, config.batch_size)
        self._succeeded = False

    def begin(self, size: int) -> None:
        """A batch of so many trials begins."""
        self._window.clear()
        self._size = size

    def count(self, *, failed: bool) -> None:
        """An evaluation has ended."""
        self._succeeded = self._succeeded or not failed
        self._small.append(failed)
        self._window.append(failed)

    @property
    def exceeded(self) -> tuple[int, int] | None:
        """(failures, evaluations that they are a share of) if it is more than what is allowed."""
        if not self._succeeded and len(self._small) == WINDOW and self._share < 1:
            return WINDOW, WINDOW
        failed, size = sum(self._window), self._size
        if size < WINDOW:
            failed, size = sum(self._small), WINDOW
            if failed < size:
                return None
        return (failed, size) if failed > self._share * size else None
