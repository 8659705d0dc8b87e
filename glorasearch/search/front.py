"""The trials of a search to choose from: those that no other one beats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from glorasearch.search.objectives import Objective, is_quality, rises
from glorasearch.search.trials import TrialRecord


def front(records: Iterable[TrialRecord], objectives: Sequence[Objective]) -> tuple[TrialRecord, ...]:
    """The trials that no other one beats in all objectives, the first of equal ones; the cheapest first.

    Trials that were stopped early, whose worth is not known, do not take part.
    """
    costs = [name for name in objectives if not is_quality(name)]
    qualities = [name for name in objectives if is_quality(name)]

    def losses(record: TrialRecord) -> tuple[float, ...]:
        worth = [-record.value(name) if rises(name) else record.value(name) for name in qualities]
        return (*map(record.value, costs), *worth)

    def order(record: TrialRecord) -> tuple[float, ...]:
        return (*losses(record), record.score.cross_entropy, record.number)

    found: list[tuple[tuple[float, ...], TrialRecord]] = []
    for record in sorted((one for one in records if not one.score.stopped_early), key=order):
        own = losses(record)  # what comes later is better than it in none, or not in all
        if not any(all(a <= b for a, b in zip(other, own, strict=True)) for other, _ in reversed(found)):
            found.append((own, record))
    return tuple(record for _, record in found)
