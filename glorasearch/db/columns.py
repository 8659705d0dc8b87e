"""Column types that preserve what databases lose: NaN, infinities, and the order of JSON objects."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, Double, Text
from sqlalchemy.types import TypeDecorator

_dump = json.JSONEncoder(separators=(",", ":")).encode


def json_copy(value: Any) -> Any:
    """An independent copy of the value as a `JsonText` column returns it: tuples become lists, keys text."""
    return json.loads(_dump(value))


class JsonText(TypeDecorator[Any]):
    """A JSON value stored as text, so that every database returns what was stored.

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
    """A double that may be NaN; NaN is stored as NULL because SQLite has none."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:
        """NaN → NULL."""
        return None if value is None or math.isnan(value) else float(value)

    def process_result_value(self, value: float | None, dialect: Dialect) -> float:
        """NULL → NaN."""
        return math.nan if value is None else float(value)


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time with its zone, returned in UTC; stored in UTC without a zone."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Any zone → UTC without a zone."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """UTC without a zone → UTC."""
        return None if value is None else value.replace(tzinfo=UTC)
