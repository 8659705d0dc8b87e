"""Trials of a `TrialStorage`: what they are made of, who reads them, and which statements are sent for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from sqlalchemy import event

from glorasearch.db import TrialStorage

DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "blocks.0.attn.qkv.B": CategoricalDistribution(("none", "constant", "vector", "lora:8")),
    "blocks.0.attn.qkv.A": CategoricalDistribution(("none", "lora:8")),
    "rate": FloatDistribution(1e-5, 1.0, log=True),
    "depth": IntDistribution(1, 12),
}
PARAMS = {"blocks.0.attn.qkv.B": "vector", "blocks.0.attn.qkv.A": "lora:8", "rate": 0.1, "depth": 3}


def reopened(storage: TrialStorage) -> TrialStorage:
    """The same database, as another process sees it."""
    return TrialStorage(storage.database.url)


@contextmanager
def counted_statements(storage: TrialStorage) -> Iterator[list[str]]:
    """The statements that change something, as they are sent."""
    sent: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith(("BEGIN", "INSERT INTO glorasearch_receipts")):
            sent.append(statement)

    event.listen(storage.database.engine, "before_cursor_execute", note)
    yield sent
    event.remove(storage.database.engine, "before_cursor_execute", note)
