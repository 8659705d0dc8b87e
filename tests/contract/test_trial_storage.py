"""Optuna's published storage contract, on SQLite and PostgreSQL."""

from collections.abc import Iterator

import pytest
from optuna.testing.pytest_storages import StorageTestCase

from glorasearch.db import TrialStorage


class TestTrialStorage(StorageTestCase):
    @pytest.fixture
    def storage(self, database_url: str) -> Iterator[TrialStorage]:
        storage = TrialStorage(database_url)
        yield storage
        storage.database.close()
