"""All figures of a run, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from glorasearch.figures import curves, labelled, numbers, raced, searched, survival, tested, winner, work, workers
from glorasearch.figures.facts import RunFacts
from glorasearch.figures.figure import Figure
from glorasearch.figures.searched import TrialLink
from glorasearch.runs.watched import setting
from glorasearch.tasks.kinds import TaskKind

_MAKERS: Final[Mapping[str, tuple[Callable[[RunFacts], Figure | None], str]]] = {
    "winner": (winner.picture, "the winner as a picture: no winner is known yet"),
    "front": (searched.front, "score against parameters: no trial has been evaluated to the end"),
    "generations": (searched.generations, "the search by generation: no trial has been evaluated to the end"),
    "time": (searched.over_time, "the search over time: no trial has been evaluated to the end"),
    "survival": (survival.survival, "which choices survive: too few subnets with free genes have been evaluated"),
    "race": (raced.race, "the race: none of its trainings is recorded"),
    "inherited": (
        raced.inherited,
        "inherited against stand-alone scores: no race, or none of its candidates was a trial",
    ),
    "confusion": (tested.confusion, "the confusion matrix: no result on the test split"),
    "labels": (labelled.labels, "label by label: no result on the test split"),
    "predicted": (numbers.predicted, "predicted against true values: no predictions.csv in the run's folder"),
    "residuals": (numbers.residuals, "residuals: no predictions.csv in the run's folder"),
    "calibration": (tested.calibration, "calibration: no predictions.csv in the run's folder"),
    "losses": (curves.losses, "losses: no training has recorded any"),
    "rates": (curves.rates, "learning rates: no training has recorded any"),
    "workers": (workers.workers, "the map of workers: none has been recorded"),
    "busy": (work.busy, "evaluations at work: no two of them have recorded their time"),
    "cost": (work.cost, "what it cost: no stage has recorded its time"),
}
"""Key → what makes the figure, and what is said where there is none."""
_ONLY: Final[Mapping[str, tuple[TaskKind, ...]]] = {
    "confusion": ("classify",),
    "labels": ("multilabel",),
    "predicted": ("regress",),
    "residuals": ("regress",),
    "calibration": ("classify", "multilabel"),
}
"""Figures that there are only of these tasks: runs of others lack nothing."""

_OF_SEARCH: Final = frozenset({"front", "generations", "time", "survival", "race", "inherited", "workers", "busy"})
"""Figures of a search and its race: a point of another run's has none of its own."""


def figures_of(facts: RunFacts, trial_link: TrialLink | None = None) -> list[Figure]:
    """The figures that a run has the data for.

    Args:
        facts: of the run.
        trial_link: address of a trial's page by its number; points of trials lead there.
    """
    found = (searched.front(facts, trial_link) if key == "front" else make(facts) for key, (make, _) in _MAKERS.items())
    return [figure for figure in found if figure is not None]


def lacking(facts: RunFacts, figures: Iterable[Figure]) -> list[str]:
    """Why the figures of a run that are not among those of `figures_of` are not drawn."""
    drawn, point = {one.key for one in figures}, setting(facts.record.config, "point", "run")
    missing = [
        (key, why)
        for key, (_, why) in _MAKERS.items()
        if facts.task in _ONLY.get(key, (facts.task,)) and key not in drawn
    ]
    if point is None:
        return [why for _, why in missing]
    others = [why.partition(":")[0] for key, why in missing if key in _OF_SEARCH]
    said = [f"{', '.join(others)}: its search is that of run {point}, whose report has them"] if others else []
    return said + [why for key, why in missing if key not in _OF_SEARCH]
