"""The distributions of parameters: stored once per study, read once per process."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
    json_to_distribution,
)
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from glorasearch.db.database import Database
from glorasearch.db.finished_trial import Layout, PackedParams
from glorasearch.db.models import DistributionRow, table_of
from glorasearch.db.retry import retried
from glorasearch.db.study_storage import require_study
from glorasearch.errors import DamagedRowError

_rows = table_of(DistributionRow)

_MANY = 500
"""For more names than this, all distributions of the study are read."""

StoredParams = dict[str, Any]
"""Name → internal value, or [internal value, version of the distribution] where the version is not 0."""


class DistributionStore:
    """Encodes parameters into what a trial's row stores, and decodes them. Thread-safe.

    Distributions are only ever added to a study, so what a process has read stays valid. Version 0 of a parameter is
    the first that any trial used; Optuna lets the range of a number change later, which adds a version.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._versions: dict[int, dict[str, list[BaseDistribution]]] = {}
        self._layouts: dict[int, Layout] = {}
        self._alike: dict[int, dict[str, BaseDistribution]] = {}
        """By study and name, a caller's distribution that equals version 0: comparing all those of a trial is slow."""

    def of_study(self, study_id: int) -> dict[str, BaseDistribution]:
        """Name → first distribution of every parameter of a study, as the database has it now."""
        return {name: versions[0] for name, versions in self._read(study_id).items()}

    def encode(
        self, study_id: int, params: Mapping[str, float], distributions: Mapping[str, BaseDistribution]
    ) -> StoredParams:
        """Parameters with internal values → what is stored; new distributions are stored.

        Raises:
            ValueError: if a distribution is incompatible with the one that the study has for that parameter.
            KeyError: if there is no such study.
        """
        while (stored := self._find(study_id, params, distributions)) is None:
            self._register(study_id, distributions)
        return stored

    def pack(self, study_id: int, stored: StoredParams) -> tuple[Layout, PackedParams]:
        """What is stored → what `FinishedTrial` keeps. Trials with the same parameters share a layout."""
        layout = self._layout(study_id, stored)
        return layout, layout.pack(value[0] if type(value) is list else value for value in stored.values())

    def decode(self, study_id: int, stored: StoredParams) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        """What is stored → parameters with external values, and their distributions.

        Trials with the same parameters share one dictionary of distributions, which must not be modified.
        """
        layout, packed = self.pack(study_id, stored)
        return layout.decode(packed), layout.distributions

    def decode_part(self, study_id: int, stored: StoredParams) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        """As `decode`, for some of a trial's parameters; the dictionaries are the caller's own."""
        distributions = self._lookup(study_id, stored)
        values = {name: value[0] if type(value) is list else value for name, value in stored.items()}
        return {name: distributions[name].to_external_repr(value) for name, value in values.items()}, distributions

    def forget(self, study_id: int) -> None:
        """Drop what is cached of a study that was deleted."""
        with self._lock:
            self._versions.pop(study_id, None)
            self._layouts.pop(study_id, None)
            self._alike.pop(study_id, None)

    def _find(
        self, study_id: int, params: Mapping[str, float], distributions: Mapping[str, BaseDistribution]
    ) -> StoredParams | None:
        """What is stored, or None if a distribution is not known yet."""
        known = self._versions.get(study_id, {})
        alike = self._alike.setdefault(study_id, {})
        stored: StoredParams = {}
        for name, value in params.items():
            versions = known.get(name)
            if versions is None:
                return None
            distribution = distributions[name]
            if versions[0] is distribution or alike.get(name) is distribution:
                stored[name] = value
                continue
            if versions[0] == distribution:
                alike[name] = distribution
                stored[name] = value
                continue
            check_distribution_compatibility(versions[0], distribution)
            if distribution not in versions:
                return None
            stored[name] = [value, versions.index(distribution)]
        return stored

    @retried
    def _register(self, study_id: int, distributions: Mapping[str, BaseDistribution]) -> None:
        """Store what is not known yet. Other processes may do the same; the first one's rows count."""
        known = self._read(study_id, distributions)
        new = [
            (name, known.get(name, []), distribution)
            for name, distribution in distributions.items()
            if distribution not in known.get(name, [])
        ]
        for _, versions, distribution in new:
            if versions:
                check_distribution_compatibility(versions[0], distribution)
        if not new:
            return
        rows = [
            {
                "study_id": study_id,
                "name": name,
                "version": len(versions),
                "distribution": distribution_to_json(distribution),
            }
            for name, versions, distribution in new
        ]
        try:
            with self._database.write() as connection:
                require_study(connection, study_id)
                connection.execute(_rows.insert(), rows)
        except IntegrityError:
            if self._read(study_id, distributions) == known:
                raise
            # Another process stored one of these versions first: the caller looks again and finds it.
            return
        self._learn(study_id, {name: [*versions, distribution] for name, versions, distribution in new})

    @retried
    def _read(self, study_id: int, names: Collection[str] | None = None) -> dict[str, list[BaseDistribution]]:
        wanted = select(_rows.c.name, _rows.c.distribution).where(_rows.c.study_id == study_id)
        if names is not None and len(names) <= _MANY:
            wanted = wanted.where(_rows.c.name.in_(names))
        with self._database.read() as connection:
            found = connection.execute(wanted.order_by(_rows.c.name, _rows.c.version)).all()
        versions: dict[str, list[BaseDistribution]] = {}
        for name, text in found:
            versions.setdefault(name, []).append(json_to_distribution(text))
        self._learn(study_id, versions)
        return versions

    def _learn(self, study_id: int, versions: Mapping[str, list[BaseDistribution]]) -> None:
        with self._lock:
            known = self._versions.setdefault(study_id, {})
            for name, distributions in versions.items():
                if len(distributions) > len(known.get(name, [])):
                    known[name] = distributions

    def _layout(self, study_id: int, stored: StoredParams) -> Layout:
        plain = not any(type(value) is list for value in stored.values())
        last = self._layouts.get(study_id)
        if plain and last is not None and last.names == list(stored):
            return last
        layout = Layout(self._lookup(study_id, stored))
        if plain:
            with self._lock:
                self._layouts[study_id] = layout
        return layout

    def _lookup(self, study_id: int, stored: StoredParams) -> dict[str, BaseDistribution]:
        def pick(known: Mapping[str, list[BaseDistribution]]) -> dict[str, BaseDistribution]:
            return {name: known[name][value[1] if type(value) is list else 0] for name, value in stored.items()}

        try:
            return pick(self._versions.get(study_id, {}))
        except (KeyError, IndexError):
            pass
        try:
            return pick(self._read(study_id))
        except (KeyError, IndexError) as error:
            raise DamagedRowError(
                f"database {self._database.name}: a trial of the study with id {study_id} has parameters of which "
                f"table {_rows.name} has no distribution ({error}); start its run over with --fresh, or put back a "
                "copy of the database"
            ) from error
