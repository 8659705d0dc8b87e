"""Optuna's published storage contract, on SQLite."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.testing.pytest_storages import StorageTestCase

from glorasearch.db import TrialStorage


class TestTrialStorageOnSqlite(StorageTestCase):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[TrialStorage]:
        storage = TrialStorage(f"sqlite:///{tmp_path}/trials.db")
        yield storage
        storage.database.close()
