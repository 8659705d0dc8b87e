"""Output of commands: JSON, and the numbers in tables."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from glorasearch.quantities import MISSING, percent
from glorasearch.redact import redact, redact_all


def score(accuracy: float | None, error: float | None) -> str:
    """An accuracy, or where there is none a squared error."""
    return percent(accuracy) if error is None else f"{error:.3f}"


def count(number: float | None) -> str:
    """A whole number, with separators of thousands."""
    return MISSING if number is None else f"{number:,.0f}"


def echo_json(content: Any, *, line: bool = False) -> None:
    """Print JSON, with null for numbers that are not finite; `line` keeps it on one."""
    click.echo(json.dumps(_finite(redact_all(content)), indent=None if line else 2, allow_nan=False))


def echo_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print CSV; texts are quoted where they need it, and hold no credentials."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([redact(value) if isinstance(value, str) else value for value in row] for row in rows)
    click.echo(text.getvalue(), nl=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value
