"""The programs in `benchmarks` import each other by name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="package")
def benches() -> Iterator[Callable[[str], ModuleType]]:
    """Imports a module of `benchmarks`."""
    folder = str(Path(__file__).parents[3] / "benchmarks")
    sys.path.insert(0, folder)
    yield importlib.import_module
    sys.path.remove(folder)
