"""Trials as rows of a table, and back."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Row

from glorasearch.db.distribution_store import StoredParams
from glorasearch.db.models import TrialRow, table_of

trials = table_of(TrialRow)

COLUMNS = tuple(trials.c)
"""In the order that `frozen_trial` expects them."""


def frozen_trial(row: Row[Any]) -> FrozenTrial:
    """A row of `COLUMNS` → the trial without its parameters."""
    return FrozenTrial(
        number=row.number,
        trial_id=row.id,
        state=TrialState[row.state.upper()],
        value=None,
        values=row.objectives,
        datetime_start=row.started,
        datetime_complete=row.finished,
        params={},
        distributions={},
        user_attrs=row.user_attrs,
        system_attrs=row.system_attrs,
        intermediate_values={int(step): float(value) for step, value in row.intermediate},
    )


def row_values(trial: FrozenTrial, stored: StoredParams) -> dict[str, Any]:
    """The columns of a trial's row, except those that identify it."""
    return {
        "state": trial.state.name.lower(),
        "started": trial.datetime_start,
        "finished": trial.datetime_complete,
        "objectives": None if trial.values is None else [float(value) for value in trial.values],
        "user_attrs": trial.user_attrs,
        "system_attrs": trial.system_attrs,
        "intermediate": intermediate_values(trial),
        "params": stored,
    }


def internal_values(params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> dict[str, float]:
    """External values of parameters → internal ones."""
    return {name: distributions[name].to_internal_repr(value) for name, value in params.items()}


def intermediate_values(trial: FrozenTrial) -> list[tuple[int, float]]:
    """Intermediate values as the row stores them; a JSON object would turn the steps into text."""
    return [(int(step), float(value)) for step, value in trial.intermediate_values.items()]


def changeable_copy(trial: FrozenTrial) -> FrozenTrial:
    """A copy whose values may be replaced, but not modified in place, without changing the original."""
    clone = copy.copy(trial)
    clone.params = dict(trial.params)
    clone.distributions = dict(trial.distributions)
    clone.user_attrs = dict(trial.user_attrs)
    clone.system_attrs = dict(trial.system_attrs)
    clone.intermediate_values = dict(trial.intermediate_values)
    return clone


def independent_copy(trial: FrozenTrial) -> FrozenTrial:
    """A copy that the caller may change. Distributions are shared: they are immutable, and 240 per trial."""
    clone = changeable_copy(trial)
    clone.user_attrs = copy.deepcopy(trial.user_attrs)
    clone.system_attrs = copy.deepcopy(trial.system_attrs)
    return clone
