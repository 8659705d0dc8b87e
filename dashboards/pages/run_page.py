"""A run: how far it is, what it found, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from dashboards.pages import files, numbers
from dashboards.pages.reading import Outline, Reader, Search
from dashboards.pages.runs_page import FAST, SLOW
from dashboards.pages.trial_page import picture
from glorasearch.db import RunRecord
from glorasearch.errors import GlorasearchError
from glorasearch.quantities import about
from glorasearch.runs.metric_rows import winner_rows
from glorasearch.runs.output_rows import output_rows
from glorasearch.runs.results import Results
from glorasearch.runs.spent import is_part, taken_over
from glorasearch.runs.statements import comparisons, points, statements
from glorasearch.runs.watched import Watched, recorded_fitness, recorded_task, setting
from glorasearch.space import fitness_name, higher_is_better

SHOWN: Final = 20
"""Trials on the page of the run; all are on their own."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a stage took."""

    stage: str
    seconds: float
    """0 of one whose result was taken over."""
    steps: int | None
    whose: str = ""
    """Whose work it is, if not this run's."""


def context(reader: Reader, record: RunRecord) -> dict[str, Any]:
    """What the template of a run needs."""
    watched, search, row = Watched.read(reader.runs, record.name), reader.search(record), reader.row(record)
    point_of = setting(record.config, "point", "run")
    found = _found(record, reader.record(point_of) if point_of else None)
    best_first = _best_first(search)
    note, damage = reader.notes.readable(record.name)
    return {
        "record": record,
        "note": note,
        "note_damage": damage,
        "editable": reader.editable,
        "row": row,
        "stages": watched.stages,
        "workers": watched.workers,
        "live": FAST if watched.under_way else SLOW,
        "facts": _facts(watched),
        "search": search,
        "task": recorded_task(record),
        "fitness": fitness_name(recorded_fitness(record)),
        "worth_of": partial(numbers.worth_text, recorded_fitness(record)),
        "trials": best_first[:SHOWN],
        "more": len(best_first) - SHOWN,
        "files": files.offered(reader, record.name),
        "point_of": point_of,
        **found,
        "took": {one.stage: one.seconds for one in found["costs"] if not one.whose},
        "is_part": is_part,
    }


def all_trials(reader: Reader, record: RunRecord) -> dict[str, Any]:
    """What the template of all trials of a run needs."""
    search = reader.search(record)
    return {
        "record": record,
        "search": search,
        "task": recorded_task(record),
        "fitness": fitness_name(recorded_fitness(record)),
        "worth_of": partial(numbers.worth_text, recorded_fitness(record)),
        "trials": _best_first(search),
        "live": FAST if Watched.read(reader.runs, record.name).under_way else SLOW,
    }


def _found(record: RunRecord, origin: RunRecord | None) -> dict[str, Any]:
    """What stages found; empty, with the reason, where a result cannot be read."""
    empty: dict[str, Any] = {
        "statements": (), "comparisons": (), "winner": None, "pick": None, "race": None, "tested": None,
        "metrics": [], "outputs": [], "confusion": None, "costs": [], "problem": "", "export": None,
    }  # fmt: skip
    results = Results(record.stages, record.name)
    try:
        pick, tested = results.pick, results.test
        genes = {} if pick is None else {f"{layer}.{tensor}": choice for (layer, tensor), choice in pick.subnet.items()}
        return empty | {
            "statements": _said(results),
            "comparisons": [(one, _points(one)) for one in comparisons(results)],
            "winner": picture(genes) if genes else None,
            "pick": pick,
            "race": results.race,
            "tested": tested,
            "metrics": [] if tested is None else winner_rows(tested),
            "outputs": [] if tested is None else output_rows(tested),
            "confusion": _confusion(tested),
            "costs": _costs(record, results, origin),
            "export": results.export,
        }
    except GlorasearchError as error:
        return empty | {"problem": str(error)}


def _said(results: Results) -> tuple[str, ...]:
    """What can be said of the winner, in the words of its report once there is one."""
    report = results.report
    return statements(results, "the winner") if report is None else report.statements


def _points(one: Any) -> str:
    if one.only_winner is None:
        return f"{one.difference:+.3f} MSE ({one.interval[0]:+.3f} to {one.interval[1]:+.3f})"
    return f"{points(one.difference)} ({points(one.interval[0])} to {points(one.interval[1])})"


def _facts(watched: Watched) -> list[tuple[str, str]]:
    """Settings that say what the run is; of one under way the time that is left."""
    record = watched.record
    named = (("Backbone", "backbone", "name"), ("Data", "data", "source"), ("Search space", "space", "name"))
    facts = [(label, setting(record.config, *place) or numbers.MISSING) for label, *place in named]
    asked = {"regress": "numbers of an image", "multilabel": "several labels an image"}
    if (task := recorded_task(record)) in asked:
        facts.insert(2, ("Task", asked[task]))
    sampler = setting(record.config, "search", "sampler")
    left = [] if watched.seconds_left is None else [("Left", f"at most about {about(round(watched.seconds_left))}")]
    seed = str(record.config.get("seed", numbers.MISSING))
    return [*facts, ("Sampler", sampler or numbers.MISSING), ("Seed", seed), *left]


def _best_first(search: Search | None) -> list[Outline]:
    """Trials that were evaluated to the end, the best first; then the others, the latest first."""
    if search is None:
        return []
    sign = -1.0 if higher_is_better(search.fitness) else 1.0
    full = [one for one in search.trials if one.full and one.fitness is not None]
    others = [one for one in search.trials if not (one.full and one.fitness is not None)]
    full.sort(key=lambda one: (sign * (one.fitness or 0.0), one.number))
    return [*full, *reversed(others)]


def _confusion(tested: Any) -> dict[str, Any] | None:
    """Rows of labels, columns of predictions, each cell with a shade from 0 to 5."""
    if tested is None or not tested.confusion or tested.splits.classes > 40:
        return None
    count = tested.splits.classes
    matrix = [[0] * count for _ in range(count)]
    for one in tested.confusion:
        matrix[one.label][one.prediction] = one.images
    names = tested.splits.class_names or tuple(str(index) for index in range(count))
    rows = []
    for index, line in enumerate(matrix):
        total = sum(line) or 1
        shades = [0 if not images else 1 + min(4, int(4.999 * images / total)) for images in line]
        rows.append((names[index], list(zip(line, shades, strict=True)), line[index] / total if sum(line) else None))
    return {"names": names, "rows": rows}


def _costs(record: RunRecord, results: Results, origin: RunRecord | None) -> list[Cost]:
    """What every finished stage took, in the order in which they ended."""
    found, others = [], taken_over(record, origin)
    for stage, result in results.items():
        seconds = getattr(result, "seconds", None)
        if stage in others:
            found.append(Cost(stage, 0.0, None, others[stage]))
        elif isinstance(seconds, int | float) and not is_part(stage):
            found.append(Cost(stage, float(seconds), getattr(result, "steps", None)))
    return found
