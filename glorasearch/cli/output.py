"""Output of commands: JSON, and the numbers in tables."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import click

from glorasearch.redact import redact_all

MISSING = "-"
"""Stands for a number that is not there."""


def percent(share: float | None) -> str:
    """A share in percent, with one decimal."""
    return MISSING if share is None else f"{100 * share:.1f} %"


def count(number: float | None) -> str:
    """A whole number, with separators of thousands."""
    return MISSING if number is None else f"{number:,.0f}"


def echo_json(content: Any) -> None:
    """Print JSON, with null for numbers that are not finite."""
    click.echo(json.dumps(_finite(redact_all(content)), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value
