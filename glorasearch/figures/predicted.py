"""What the winner says of each test image, as `predictions.csv` of the run's folder has it."""

from __future__ import annotations

import csv
from collections.abc import Mapping

from glorasearch.figures.facts import RunFacts
from glorasearch.tasks.kinds import BETWEEN

_OF = "probability of "


def sure_and_right(facts: RunFacts) -> list[tuple[float, bool]]:
    """A probability, and whether what it is of is so.

    With one class an image that of its prediction, with several labels an image that of each label.
    """
    tested = facts.tested
    if tested is None or tested.splits.task not in ("classify", "multilabel"):
        return []
    header, lines = _table(facts)
    places = [place for place, name in enumerate(header) if name.startswith(_OF)]
    if not places or header[:3] != ["file", "label", "predicted"]:
        return []
    try:
        if tested.splits.task == "classify":
            return [(max(float(line[place]) for place in places), line[1] == line[2]) for line in lines]
        return [
            (float(line[place]), header[place].removeprefix(_OF) in line[1].split(BETWEEN))
            for line in lines
            for place in places
        ]
    except (ValueError, IndexError):
        return []


def true_and_said(facts: RunFacts) -> Mapping[str, list[tuple[str, float, float]]]:
    """Target → of each test image the file, the number, and what is said of it, in the target's own unit."""
    tested = facts.tested
    names = [] if tested is None else [one.name for one in tested.by_target]
    header, lines = _table(facts)
    if not names or header != ["file", *names, *(f"predicted {name}" for name in names)]:
        return {}
    try:
        return {
            name: [(line[0], float(line[place]), float(line[place + len(names)])) for line in lines]
            for place, name in enumerate(names, 1)
        }
    except (ValueError, IndexError):
        return {}


def _table(facts: RunFacts) -> tuple[list[str], list[list[str]]]:
    path = None if facts.folder is None else facts.folder / "predictions.csv"
    try:
        if path is None or not path.is_file():
            return [], []
        with path.open(newline="", encoding="utf-8") as file:
            header, *lines = csv.reader(file)
    except (OSError, ValueError, csv.Error):
        return [], []
    return header, lines
