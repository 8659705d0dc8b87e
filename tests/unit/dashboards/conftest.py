"""A workspace with two runs, and a dashboard that changes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.changes import Client, filled, served
from support.places import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return filled(Place(tmp_path / "workspace"))


@pytest.fixture
def client(place: Place) -> Iterator[Client]:
    with served(place) as found:
        yield found
