"""The best subnets of a finished search."""

from __future__ import annotations

from collections.abc import Mapping

from glorasearch.db import TrialStorage
from glorasearch.search.history import TrialHistory
from glorasearch.search.starts import closest
from glorasearch.search.study import Genome
from glorasearch.search.trials import TrialRecord, rank, scored_trials
from glorasearch.space import BoundSpace, Fitness, Subnet


def best_subnets(
    storage: TrialStorage, study: str, space: BoundSpace, fitness: Fitness, count: int
) -> list[tuple[TrialRecord, Subnet]]:
    """The best distinct subnets that were evaluated to the end, the best first.

    Args:
        storage: holds the study.
        study: its name.
        space: what was searched.
        fitness: what was optimised.
        count: how many.

    Raises:
        KeyError: if there is no such study.
    """
    study_id = storage.get_study_id_from_name(study)
    records = [
        record
        for record in scored_trials(storage.outlines(study_id))
        if record.reused_from is None and not record.score.stopped_early
    ]
    genome = Genome(space)
    best: list[tuple[TrialRecord, Subnet]] = []
    for record in sorted(records, key=lambda record: rank(fitness, record))[:count]:
        trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, record.number)
        best.append((record, genome.subnet(storage.get_trial(trial_id).params)))
    return best


def origin_of(
    storage: TrialStorage, study: str, space: BoundSpace, subnet: Subnet, starts: Mapping[str, Subnet]
) -> tuple[str | None, float | None]:
    """The start that a searched subnet is or descends from, and the share of its genes that are the same there.

    None and None if no trial evaluated it, or it has no start among its ancestors.

    Raises:
        KeyError: if there is no such study.
    """
    history = TrialHistory("accuracy")  # by which nothing is ranked here
    history.load(storage.outlines(storage.get_study_id_from_name(study)), Genome(space))
    record = history.evaluated(subnet.digest)
    names = () if record is None else history.starts_of(record)
    return closest(subnet, {name: starts[name] for name in names})
