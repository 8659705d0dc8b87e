"""The curves of a run while it works: what the database has of them, repeated where people look for them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from glorasearch.errors import reason
from glorasearch.runs.curves.rows import Row

_log = logging.getLogger(__name__)

Table = Mapping[str, Mapping[int, Row]]
"""Stage → step → what was measured there."""


class Writer(Protocol):
    """Writes curves to one place. What it raises is said once, and ends nothing."""

    @property
    def place(self) -> str:
        """Where it writes, for messages."""
        ...

    def append(self, row: Row, table: Table) -> None:
        """Add points, after all others of their stage; the table has them already."""
        ...

    def rewrite(self, table: Table) -> None:
        """Have these points, each once, whatever was there."""
        ...

    def close(self, state: str) -> None:
        """The run ends, `finished`, `stopped` or `failed`."""
        ...


class Curves:
    """Takes points as they are measured, or once more, and has each once.

    A training that goes on after a kill measures again what it had measured since its checkpoint: files are written
    anew then, once, when it is past that. So they are where a place could not be written for a while.
    """

    def __init__(self, writers: Sequence[Writer] = (), rows: Iterable[Row] = ()) -> None:
        """Begin with what there is.

        Args:
            writers: the places.
            rows: the points so far.
        """
        self._table: dict[str, dict[int, Row]] = {}
        self._last: dict[str, int] = {}
        self._said = False
        self._places: list[_Place] = []
        self.add(rows)
        self._places += [_Place(writer, self._say) for writer in writers]
        self.settle()

    def add(self, rows: Iterable[Row]) -> None:
        """Take points; those that are there already with the same values change nothing."""
        for row in rows:
            self._add(row)

    def _add(self, row: Row) -> None:
        of_stage, last = self._table.setdefault(row.stage, {}), self._last.get(row.stage, row.step)
        known = of_stage.get(row.step)
        before = {} if known is None else known.values
        values = {name: value for name, value in row.values.items() if not _same(before.get(name), value)}
        if not values:
            return
        again = bool(values.keys() & before.keys())
        time = row.time if known is None or again else known.time
        of_stage[row.step] = Row(row.stage, row.step, {**before, **values}, time)
        self._last[row.stage] = max(last, row.step)
        fresh = Row(row.stage, row.step, values, row.time)
        for place in self._places:
            if again or row.step < last:
                place.stale = True
            else:
                place.append(fresh, self._table)

    def settle(self) -> None:
        """Write what was measured again, and try once more where writing has failed."""
        for place in self._places:
            place.settle(self._table)

    def close(self, state: str) -> None:
        """Settle, and end."""
        self.settle()
        for place in self._places:
            place.close(state)

    def _say(self, place: str, error: Exception) -> None:
        """Once: what fails next has the same cause, or is met when that has been mended."""
        if self._said:
            return
        self._said = True
        why = error.strerror if isinstance(error, OSError) and error.strerror else reason(error)
        _log.warning(
            "curves: %s cannot be written (%s); the run goes on, and tries again after each stage. Its numbers are in "
            "the database, too: `glorasearch curves` prints them",
            place,
            why,
        )


class _Place:
    """A writer, and whether it has what the table has."""

    def __init__(self, writer: Writer, say: Callable[[str, Exception], None]) -> None:
        self._writer, self._say, self.stale = writer, say, True
        self._failed = False

    def append(self, row: Row, table: Table) -> None:
        if self._failed:
            return
        if self.stale:
            self._rewrite(table)
        else:
            self._try(lambda: self._writer.append(row, table))

    def settle(self, table: Table) -> None:
        self._failed = False
        if self.stale:
            self._rewrite(table)

    def close(self, state: str) -> None:
        self._try(lambda: self._writer.close(state))

    def _rewrite(self, table: Table) -> None:
        self.stale = False
        self._try(lambda: self._writer.rewrite(table))

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self.stale = self._failed = True
            self._say(self._writer.place, error)


def _same(known: float | None, value: float) -> bool:
    return known is not None and (known == value or (math.isnan(known) and math.isnan(value)))
