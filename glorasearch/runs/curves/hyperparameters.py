"""A run's configuration as hyperparameters, as trackers take them: one flat table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from glorasearch.redact import redact

Hyperparameter = str | bool | int | float


def hyperparameters(configuration: Mapping[str, Any]) -> dict[str, Hyperparameter]:
    """`train.steps` → 6000 and so on, without what is not set; lists as JSON, no credentials.

    Args:
        configuration: of a run, as JSON.
    """
    return {key: redact(value) if isinstance(value, str) else value for key, value in _flat(configuration, "")}


def _flat(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Hyperparameter]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, (list, tuple)):
            yield f"{prefix}{key}", json.dumps(value)
        elif value is not None:
            yield f"{prefix}{key}", value
