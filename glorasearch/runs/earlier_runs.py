"""Subnets of earlier runs, from which a search may start: what was exported, or any trial."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from glorasearch.db import RunRecord
from glorasearch.errors import ConfigError, RunNotFoundError
from glorasearch.runs.results import Results
from glorasearch.runs.workspace import Workspace
from glorasearch.search.starts import RUN
from glorasearch.space import Subnet

_log = logging.getLogger(__name__)


def subnet_of_run(workspace: Workspace, entry: str, own: str) -> Subnet:
    """The subnet that `run:NAME` or `run:NAME/TRIAL` names.

    `run:NAME` is what that run exports if it is of its own space, else, with a warning, the winner of its search.

    Args:
        workspace: of the runs.
        entry: of `[search] start`.
        own: the run that starts from it.

    Raises:
        ConfigError: if there is no such run or trial, or its search has not finished.
    """
    name, slash, trial = entry.removeprefix(RUN).partition("/")
    if name == own:
        raise ConfigError(f"search.start: {entry!r}: a run cannot start from itself; give this one another name")
    try:
        (record,) = workspace.require_runs([name])
    except RunNotFoundError as error:
        raise ConfigError(f"search.start: {entry!r}: {error}") from error
    results = Results(record.stages, record.name)
    found, pick = results.search, results.pick
    if found is None or pick is None:
        raise ConfigError(f"search.start: {entry!r}: the search of run {name!r} has not finished; finish it first")
    if slash:
        point = (record.config.get("point") or {}).get("run")
        if point is not None:
            raise ConfigError(
                f"search.start: {entry!r}: run {name!r} is a point of run {point!r} and has no trials of its own; "
                f"those are {RUN}{point}/TRIAL"
            )
        return trial_subnet(workspace, name, trial, found.subnet, f"search.start: {entry!r}")
    if pick.own_space:
        return pick.subnet
    _log.warning(
        "search.start: %r is the winner of its search, trial %d: its race was won by %s, which is no subnet of its "
        "search space",
        entry,
        found.trial,
        pick.label,
    )
    return found.subnet


def trial_subnet(workspace: Workspace, run: str, number: str, winner: Subnet, key: str) -> Subnet:
    """The subnet of a trial; genes with a single choice, which trials do not store, are those of the winner.

    Raises:
        ConfigError: beginning with `key`, if there is no such trial, or it is not stored whole.
    """
    from glorasearch.db import TrialStorage  # Optuna takes a second to import
    from glorasearch.search.trials import SUBNET

    storage = TrialStorage(workspace.database)
    study = storage.get_study_id_from_name(run)
    try:
        trial = storage.get_trial(storage.get_trial_id_from_study_id_trial_number(study, int(number)))
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"{key}: run {run!r} has no trial {number!r}; it has the trials 0 to {storage.get_n_trials(study) - 1}"
        ) from error
    genes = {
        (layer, tensor): trial.params.get(f"{layer}.{tensor}", choice) for (layer, tensor), choice in winner.items()
    }
    subnet = Subnet(genes)
    if subnet.digest != trial.user_attrs.get(SUBNET):
        raise ConfigError(f"{key}: the subnet of trial {number} of run {run!r} is not stored whole")
    return subnet


def recorded_starts(record: RunRecord | None) -> dict[str, Subnet]:
    """Entry → subnet of the other runs that a run was made to start from."""
    starts: Mapping[str, Any] = {} if record is None else record.config.get("starts", {})
    return {entry: Subnet.from_dict(start["subnet"]) for entry, start in starts.items() if entry.startswith(RUN)}
