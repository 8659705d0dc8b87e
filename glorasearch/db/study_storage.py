"""The half of the Optuna storage that deals with studies: names, directions, attributes."""

from __future__ import annotations

import uuid
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from sqlalchemy import Connection, Update, delete, select, update
from sqlalchemy.exc import IntegrityError

from glorasearch.db.database import Database
from glorasearch.db.leases import Lease, Leases
from glorasearch.db.models import StudyAttributeRow, StudyRow, table_of
from glorasearch.db.retry import retried

studies = table_of(StudyRow)
_attributes = table_of(StudyAttributeRow)


def require_study(connection: Connection, study_id: int) -> None:
    """Raise `KeyError` (as Optuna's contract asks) unless the study exists."""
    if connection.scalar(select(studies.c.id).where(studies.c.id == study_id)) is None:
        raise KeyError(f"there is no study with id {study_id}")


class StudyStorage(BaseStorage):
    """The methods of `optuna.storages.BaseStorage` that deal with studies; their contracts are Optuna's."""

    _database: Database

    @abstractmethod
    def _forget(self, study_id: int) -> None:
        """Drop what this process has cached of a study that was deleted."""

    @retried
    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        """Insert a study and return its id."""
        name = f"no-name-{uuid.uuid4()}" if study_name is None else study_name
        values = {"name": name, "directions": [d.name.lower() for d in directions], "trial_count": 0}
        try:
            with self._database.write() as connection:
                return _new_id(connection.execute(studies.insert(), values).inserted_primary_key)
        except IntegrityError as error:
            raise DuplicatedStudyError(f"a study named {name!r} exists already; choose another name") from error

    @retried
    def delete_study(self, study_id: int) -> None:
        """Delete a study with its trials."""
        with self._database.write() as connection:
            if connection.execute(delete(studies).where(studies.c.id == study_id)).rowcount == 0:
                raise KeyError(f"there is no study with id {study_id}")
        self._forget(study_id)

    @contextmanager
    def lock_study(self, study_name: str) -> Iterator[Lease]:
        """Be the only writer of a study, as with `RunStore.lock` of a run.

        Raises:
            RunLockedError: if a live process holds it.
        """
        with Leases(self._database).hold(_lease_of(study_name), f"study {study_name!r}") as lease:
            yield lease

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set a user attribute."""
        self._set_study_attribute(study_id, "user", key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set a system attribute (Optuna's)."""
        self._set_study_attribute(study_id, "system", key, value)

    @retried
    def get_study_id_from_name(self, study_name: str) -> int:
        """The id of the study of that name."""
        with self._database.read() as connection:
            found = connection.scalar(select(studies.c.id).where(studies.c.name == study_name))
        if found is None:
            raise KeyError(f"there is no study named {study_name!r}")
        return int(found)

    def get_study_name_from_id(self, study_id: int) -> str:
        """The name of a study."""
        return str(self._study_column(study_id, "name"))

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Whether each objective is minimised or maximised."""
        return _directions(self._study_column(study_id, "directions"))

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """The user attributes."""
        return self._study_attributes(study_id, "user")

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """The system attributes (Optuna's)."""
        return self._study_attributes(study_id, "system")

    @retried
    def get_all_studies(self) -> list[FrozenStudy]:
        """All studies by id."""
        with self._database.read() as connection:
            rows = connection.execute(select(studies).order_by(studies.c.id)).all()
            attributes: dict[tuple[int, str], dict[str, Any]] = {}
            for study_id, scope, key, value in connection.execute(select(_attributes)):
                attributes.setdefault((study_id, scope), {})[key] = value
        return [
            FrozenStudy(
                study_name=row.name,
                direction=None,
                directions=_directions(row.directions),
                user_attrs=attributes.get((row.id, "user"), {}),
                system_attrs=attributes.get((row.id, "system"), {}),
                study_id=row.id,
            )
            for row in rows
        ]

    @retried
    def _study_column(self, study_id: int, column: str) -> Any:
        with self._database.read() as connection:
            row = connection.execute(select(studies.c[column]).where(studies.c.id == study_id)).one_or_none()
        if row is None:
            raise KeyError(f"there is no study with id {study_id}")
        return row[0]

    @retried
    def _study_attributes(self, study_id: int, scope: str) -> dict[str, Any]:
        wanted = select(_attributes.c.key, _attributes.c.value).where(
            _attributes.c.study_id == study_id, _attributes.c.scope == scope
        )
        with self._database.read() as connection:
            require_study(connection, study_id)
            return {key: value for key, value in connection.execute(wanted)}  # noqa: C416  # dict() wants no Row

    def _set_study_attribute(self, study_id: int, scope: str, key: str, value: Any) -> None:
        where = {"study_id": study_id, "scope": scope, "key": key}
        change = update(_attributes).where(*(_attributes.c[name] == part for name, part in where.items()))
        try:
            self._upsert_attribute(change.values(value=value), where | {"value": value})
        except IntegrityError:
            # Another process inserted the key or deleted the study in between: look once more.
            self._upsert_attribute(change.values(value=value), where | {"value": value})

    @retried
    def _upsert_attribute(self, change: Update, row: dict[str, Any]) -> None:
        with self._database.write() as connection:
            require_study(connection, row["study_id"])
            if connection.execute(change).rowcount == 0:
                connection.execute(_attributes.insert(), row)


def _lease_of(study_name: str) -> str:
    return f"study:{study_name}"


def _directions(names: Sequence[str]) -> list[StudyDirection]:
    return [StudyDirection[name.upper()] for name in names]


def _new_id(primary_key: Any) -> int:
    return int(primary_key[0])
