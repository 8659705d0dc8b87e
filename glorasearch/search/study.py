"""A search as an Optuna study: opened or refused by what it searches, subnets as parameters of its trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection

from glorasearch.db import TrialStorage
from glorasearch.errors import SearchError
from glorasearch.search.config import SearchConfig
from glorasearch.search.trials import direction
from glorasearch.space import BoundSpace, Subnet

_SHOWN: Final = 3
"""Differences between two searches that a message gives of a kind."""


class Genome:
    """Translates between subnets and the parameters of trials; genes with a single choice are not stored."""

    def __init__(self, space: BoundSpace) -> None:
        self.space = space
        self.distributions: dict[str, BaseDistribution] = {
            gene.name: CategoricalDistribution(gene.choices) for gene in space.free_genes
        }
        """Parameter name → choices, in the order of the genes."""
        self._fixed = {gene.key: gene.choices[0] for gene in space.genes if len(gene.choices) == 1}
        self._free = tuple((gene.key, gene.name) for gene in space.free_genes)

    def subnet(self, params: Mapping[str, Any]) -> Subnet:
        """The subnet that a trial's parameters describe."""
        return Subnet(self._fixed | {key: params[name] for key, name in self._free})

    def params(self, subnet: Subnet) -> dict[str, str]:
        """The parameters of a trial that describe the subnet."""
        return {name: subnet[key] for key, name in self._free}


def identity_of(
    space: BoundSpace, weights_digest: str, split_digest: str, config: SearchConfig, starts: Mapping[str, Subnet]
) -> dict[str, Any]:
    """The user attributes that identify a study: what its trials and their scores depend on."""
    return {
        "space_digest": space.digest,
        "budget": [*space.budget, *([] if space.max_bytes is None else [f"{space.max_bytes} bytes"])],
        "weights_digest": weights_digest,
        "split_digest": split_digest,
        "search": config.identity(),
        "start": {str(n): f"{name}, {subnet.digest[:12]}" for n, (name, subnet) in enumerate(starts.items())},
    }


def open_study(storage: TrialStorage, name: str, identity: dict[str, Any], config: SearchConfig) -> int:
    """The id of the study of that name, created if there is none.

    Raises:
        SearchError: if there is one that searches something else; the message says what differs.
    """
    known = {study.study_name: study._study_id for study in storage.get_all_studies()}
    study_id = known.get(name)
    if study_id is None:
        study_id = storage.create_new_study(_directions(config), name)
    stored = storage.get_study_user_attrs(study_id)
    missing = identity.keys() - stored.keys()
    if missing and storage.get_n_trials(study_id):
        raise SearchError(
            f"study {name!r} holds trials that were not made by this search (it lacks {', '.join(sorted(missing))}); "
            "use another study name"
        )
    differences = [_difference(key, stored[key], identity[key]) for key in identity if key in stored]
    found = [difference for difference in differences if difference]
    if found:
        raise SearchError(
            f"study {name!r} belongs to another search: {'; '.join(found)}; "
            "use another study name, or the settings that the study was started with"
        )
    for key in sorted(missing):
        storage.set_study_user_attr(study_id, key, identity[key])
    return study_id


def _directions(config: SearchConfig) -> list[StudyDirection]:
    return [direction(name) for name in config.optimised]


def _difference(key: str, stored: Any, wanted: Any) -> str | None:
    if stored == wanted:
        return None
    if isinstance(stored, dict) and isinstance(wanted, dict):
        parts = [
            f"{key}.{name} was {stored.get(name, 'not set')!r}, now {wanted.get(name, 'not set')!r}"
            for name in sorted(stored.keys() | wanted.keys())
            if stored.get(name) != wanted.get(name)
        ]
        more = [f"and {len(parts) - _SHOWN} more"] if len(parts) > _SHOWN else []
        return "; ".join([*parts[:_SHOWN], *more])
    return f"{key} was {stored!r}, now {wanted!r}"
