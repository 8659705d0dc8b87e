"""Problems of the given data, gathered so that one error tells of them all."""

from __future__ import annotations

from glorasearch.errors import DataError

SHOWN = 5
"""Problems that a message spells out; the rest is counted."""


class Problems:
    """Gathers problems and raises them as one `DataError`.

    Args:
        subject: what is being checked, the first words of the message.
    """

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.found: list[str] = []

    def add(self, problem: str) -> None:
        """Note one problem."""
        self.found.append(problem)

    def raise_if_any(self) -> None:
        """Raises:
        DataError: with the first problems and the count of all, if there is any.
        """
        if not self.found:
            return
        if len(self.found) == 1:
            raise DataError(f"{self.subject}: {self.found[0]}")
        head = f"{self.subject}: {len(self.found)} problems"
        if len(self.found) > SHOWN:
            head += f", the first {SHOWN}"
        raise DataError("\n  ".join([f"{head}:", *self.found[:SHOWN]]))
