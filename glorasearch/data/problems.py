"""Problems of the data, collected and raised as one error."""

from __future__ import annotations

from collections.abc import Sequence

from glorasearch.errors import DataError

SHOWN = 5
"""Problems that a message lists; the others are only counted."""


def some(names: Sequence[str]) -> str:
    """The first of the names, quoted."""
    return ", ".join(repr(name) for name in names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


class Problems:
    """Collects problems and raises them as one `DataError`.

    Args:
        subject: what is being checked; the message begins with it.
    """

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.found: list[str] = []

    def add(self, problem: str) -> None:
        """Note one problem."""
        self.found.append(problem)

    def raise_if_any(self) -> None:
        """Raise the problems found, if any.

        Raises:
            DataError: with the first problems and the number of all.
        """
        if not self.found:
            return
        if len(self.found) == 1:
            raise DataError(f"{self.subject}: {self.found[0]}")
        head = f"{self.subject}: {len(self.found)} problems"
        if len(self.found) > SHOWN:
            head += f", the first {SHOWN}"
        raise DataError("\n  ".join([f"{head}:", *self.found[:SHOWN]]))
