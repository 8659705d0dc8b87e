"""Column types that keep what databases would lose: NaN, infinities, and the order of JSON objects."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, Double, Text
from sqlalchemy.types import TypeDecorator

_dump = json.JSONEncoder(separators=(",", ":")).encode


def json_copy(value: Any) -> Any:
    """The value as it comes back from a `JsonText` column: its own copy, tuples as lists, keys as text."""
    return json.loads(_dump(value))


class JsonText(TypeDecorator[Any]):
    """A JSON value kept as text, so that any database returns what was given.

    The JSON types of databases refuse or replace NaN and infinities, and PostgreSQL's `jsonb` reorders keys; Optuna
    needs all three. Non-finite floats are written as Python's `json` writes them (`NaN`, `Infinity`).
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        """A Python value → its JSON text; None becomes `null`."""
        return _dump(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """JSON text → a Python value."""
        return None if value is None else json.loads(value)


class Real(TypeDecorator[float]):
    """A double that may be NaN, which is stored as NULL because SQLite has no NaN."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:
        """NaN → NULL."""
        return None if value is None or math.isnan(value) else float(value)

    def process_result_value(self, value: float | None, dialect: Dialect) -> float:
        """NULL → NaN."""
        return math.nan if value is None else float(value)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, given and returned in UTC with its zone, kept without it."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Any zone → UTC without a zone."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """UTC without a zone → UTC."""
        return None if value is None else value.replace(tzinfo=UTC)
