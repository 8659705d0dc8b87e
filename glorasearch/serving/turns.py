"""Whose turn it is: one thread at a time, those that ask for what is at hand before those that need a change."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Final

IN_A_ROW: Final = 16
"""Turns with one key before the thread that has waited longest comes first, whatever its key."""


class Turns:
    """A lock whose waiting threads take turns by key, so that what a key needs is changed less often.

    Threads of one key come in the order in which they asked. Nobody waits for ever: after `in_a_row` turns of one key
    the oldest waiting thread is next.
    """

    def __init__(self, in_a_row: int = IN_A_ROW) -> None:
        self._in_a_row = in_a_row
        self._changed = threading.Condition()
        self._waiting: dict[object, Hashable] = {}
        """Ticket → key, the oldest first."""
        self._busy = False
        self._last: Hashable = None
        self._streak = 0

    @property
    def waiting(self) -> int:
        """Threads that wait."""
        with self._changed:
            return len(self._waiting)

    @contextmanager
    def turn(self, key: Hashable) -> Iterator[None]:
        """Inside the `with` no other thread has a turn."""
        ticket = object()
        with self._changed:
            self._waiting[ticket] = key
            try:
                self._changed.wait_for(lambda: not self._busy and self._next() is ticket)
            finally:
                del self._waiting[ticket]
                self._changed.notify_all()  # an interrupted thread may have been the next one
            self._busy = True
            self._streak = self._streak + 1 if key == self._last else 1
            self._last = key
        try:
            yield
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _next(self) -> object:
        """The ticket whose turn is next."""
        oldest = next(iter(self._waiting))
        if self._streak >= self._in_a_row:
            return oldest
        return next((ticket for ticket, key in self._waiting.items() if key == self._last), oldest)
