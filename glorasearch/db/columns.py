"""Column types that preserve what databases lose (NaN, infinities, order, time zones), and notice damaged cells."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import DateTime, Dialect, Double, Integer, String, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

_dump = json.JSONEncoder(separators=(",", ":")).encode

_OFFSET: Final = datetime.now().astimezone().utcoffset() or timedelta()
"""Of this process's local time; one for all times, so that daylight saving makes no trial end before it starts."""


class DamagedCellError(ValueError):
    """A cell holds what this package never writes; `db.damage` finds out which."""


def json_copy(value: Any) -> Any:
    """An independent copy of the value as a `JsonText` column returns it: tuples become lists, keys text."""
    return json.loads(_dump(value))


def local_now() -> datetime:
    """Now as Optuna counts it: local time without a zone, though with this process's one offset."""
    return datetime.now(UTC).replace(tzinfo=None) + _OFFSET


class Checked(TypeDecorator[Any]):
    """Reading raises `DamagedCellError` where the stored value cannot be one of the column's."""

    __abstract__ = True
    impl: TypeEngine[Any] | type[TypeEngine[Any]] = Text
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any] | None:
        """The type's own processor, with its errors explained."""
        process = super().result_processor(dialect, coltype)

        def checked(value: Any) -> Any:
            try:
                return value if process is None else process(value)
            except (ValueError, TypeError, RecursionError) as error:
                raise DamagedCellError(f"{_shortened(value)}: {error}") from error

        return checked


class JsonText(Checked):
    """A JSON value stored as text, so that every database returns what was stored.

    The JSON types of databases refuse or replace NaN and infinities, and PostgreSQL's `jsonb` reorders keys; Optuna
    needs all three. Non-finite floats are written as Python's `json` writes them (`NaN`, `Infinity`).
    """

    impl = Text
    cache_ok = True

    def __init__(self, *kinds: type) -> None:
        """Values of these classes only, if any are given, such as `dict` for an object."""
        super().__init__()
        self.kinds = kinds

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        """A Python value → its JSON text; None becomes `null`."""
        return _dump(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """JSON text → a Python value."""
        if value is None:
            return None
        found = json.loads(_checked_text(value))
        if self.kinds and not isinstance(found, self.kinds):
            raise ValueError(f"it is JSON of another kind than {', '.join(kind.__name__ for kind in self.kinds)}")
        return found


class JsonDocument(Checked):
    """The text of a JSON object that another library writes and reads."""

    impl = Text
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """The text, which is a JSON object."""
        if not isinstance(json.loads(value or ""), dict):
            raise ValueError("it is no JSON object")
        return value


class Name(Checked):
    """Text of a limited length, such as a name or a digest."""

    impl = String
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """The text."""
        return _checked_text(value)


class Note(Checked):
    """Text of any length."""

    impl = Text
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """The text."""
        return _checked_text(value)


class Whole(Checked):
    """A whole number."""

    impl = Integer
    cache_ok = True

    def process_result_value(self, value: int | None, dialect: Dialect) -> Any:
        """The number."""
        if value is not None and type(value) is not int:
            raise ValueError("it is no whole number")
        return value


class Word(Checked):
    """One of some words."""

    impl = String
    cache_ok = True

    def __init__(self, length: int, *words: str) -> None:
        super().__init__(length)
        self.words = words

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """The word."""
        if value not in self.words:
            raise ValueError(f"known are {', '.join(self.words)}")
        return value


class Real(Checked):
    """A double that may be NaN; NaN is stored as NULL because SQLite has none."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:
        """NaN → NULL."""
        return None if value is None or math.isnan(value) else float(value)

    def process_result_value(self, value: float | None, dialect: Dialect) -> float:
        """NULL → NaN."""
        return math.nan if value is None else float(value)


class UtcDateTime(Checked):
    """A point in time with its zone, returned in UTC; stored in UTC without a zone."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Any zone → UTC without a zone."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """UTC without a zone → UTC."""
        return None if value is None else value.replace(tzinfo=UTC)


def _shortened(value: Any) -> str:
    """The start of a value, without bytes that no message may have."""
    return repr(str(value)[:40].encode("utf-8", "backslashreplace").decode())


def _checked_text(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("it is no text")
    if not value.isascii():
        value.encode()  # a byte that is no UTF-8 was read as a lone surrogate
    return value


class LocalDateTime(Checked):
    """A point in time as Optuna has it: local time without a zone; stored in UTC, so any process may read it."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Local time → UTC, without a zone."""
        if value is not None and value.tzinfo is not None:
            return value.astimezone(UTC).replace(tzinfo=None)
        return None if value is None else value - _OFFSET

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """UTC → this process's local time, without a zone."""
        return None if value is None else value + _OFFSET
