"""The interface by which a run reports its progress; the command line shows bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int, str], None]
"""Called with the units done so far and a short note."""


class Progress(Protocol):
    """Shows long work."""

    def task(self, title: str, total: int) -> AbstractContextManager[Advance]:
        """A bar for work of `total` units."""
        ...

    def say(self, text: str) -> None:
        """A line that stays."""
        ...


class Silent:
    """Shows nothing."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """No bar."""
        yield _ignore

    def say(self, text: str) -> None:
        """No line."""


def _ignore(done: int, note: str = "") -> None:
    """Show nothing."""
