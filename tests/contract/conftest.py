"""An empty study in each kind of database."""

from collections.abc import Iterator

import pytest
from optuna.study import StudyDirection

from glorasearch.db import TrialStorage


@pytest.fixture
def storage(database_url: str) -> Iterator[TrialStorage]:
    storage = TrialStorage(database_url)
    yield storage
    storage.database.close()


@pytest.fixture
def study_id(storage: TrialStorage) -> int:
    return storage.create_new_study([StudyDirection.MAXIMIZE], "study")
