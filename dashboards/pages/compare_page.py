"""Runs side by side, with what their test images say of them in pairs."""

from __future__ import annotations

from typing import Any

from dashboards.pages import numbers
from dashboards.pages.plots import plot
from dashboards.pages.reading import Reader
from dashboards.pages.runs_page import FAST, SLOW
from glorasearch.db import RunRecord, RunState
from glorasearch.errors import GlorasearchError
from glorasearch.runs.compare import Comparison, Row, compare
from glorasearch.runs.pairs import PairedModels
from glorasearch.runs.statements import p_text, points
from glorasearch.space import Fitness, fitness_name
from glorasearch.statistics import PairedErrors


def context(reader: Reader, names: list[str]) -> dict[str, Any]:
    """What the template of the comparison needs; names that are not known are said."""
    known = {record.name: record for record in reader.runs.list()}
    records = [known[name] for name in names if name in known]
    readable = [record for record in records if reader.row(record) is not None]
    found, problem = _compared(readable)
    single = [] if found is None else [row for row in found.rows if isinstance(row, Row)]
    pairs = [] if found is None else [_pair(one) for one in found.paired.rows if isinstance(one, PairedModels)]
    busy = any(record.state in (RunState.RUNNING, RunState.CREATED) for record in records)
    return {
        "names": names,
        "known": [record.name for record in reversed(list(known.values()))],
        "unknown": [name for name in names if name not in known],
        "unreadable": [record.name for record in records if record not in readable],
        "rows": single,
        "lines": _lines(single),
        "pairs": pairs,
        "unpaired": {} if found is None else found.paired.unpaired,
        "warnings": () if found is None else found.warnings,
        "problem": problem,
        "curves": _curves(reader, records),
        "live": FAST if busy else SLOW,
    }


def _compared(records: list[RunRecord]) -> tuple[Comparison | None, str]:
    try:
        return (compare(records) if records else None), ""
    except GlorasearchError as error:
        return None, str(error)


def _lines(rows: list[Row]) -> list[tuple[str, list[str]]]:
    """What is compared, and a text for every run; lines that no run has anything for are left out."""
    found = [
        ("State", [row.state.value for row in rows]),
        ("Search space", [row.method for row in rows]),
        ("Data", [row.task for row in rows]),
        ("Seed", [str(row.seed) for row in rows]),
        ("Winner", [row.winner or numbers.MISSING for row in rows]),
        ("Test accuracy", [_with(row.test_accuracy, row.test_interval) for row in rows]),
        ("… with inherited weights", [numbers.percent(row.test_accuracy_inherited) for row in rows]),
        ("Out of fold, in the race", [numbers.percent(row.out_of_fold_accuracy) for row in rows]),
        ("Mean squared error, test", [numbers.number(row.test_error) for row in rows]),
        ("R\u00b2, test", [numbers.number(row.test_r2) for row in rows]),
        ("Mean squared error, out of fold", [numbers.number(row.out_of_fold_error) for row in rows]),
        ("Mean squared error, search", [numbers.number(row.search_error) for row in rows]),
        ("Search accuracy", [_with(row.search_accuracy, row.search_interval) for row in rows]),
        ("Tempered cross-entropy, nats", [numbers.number(row.search_tempered) for row in rows]),
        ("Trainable parameters", [numbers.number(row.parameters) for row in rows]),
        ("Size of the adapters", [numbers.size(row.adapter_bytes) for row in rows]),
        ("Training", [numbers.seconds(row.training_seconds) for row in rows]),
        ("Search and race", [numbers.seconds(row.search_seconds) for row in rows]),
    ]
    return [(name, texts) for name, texts in found if any(text != numbers.MISSING for text in texts)]


def _with(share: float | None, bounds: tuple[float, float] | None) -> str:
    return numbers.percent(share) + (f" ({numbers.interval(bounds)})" if bounds else "")


def _pair(row: PairedModels) -> dict[str, str]:
    images = row.images
    says = "no difference can be told" if row.verdict == "no difference" else row.verdict
    adjusted = "" if row.p_adjusted == images.p else f" ({p_text(row.p_adjusted)} after Holm)"
    said = {"run": row.run, "against": row.against, "p": p_text(images.p), "says": f"{says}{adjusted}"}
    if isinstance(images, PairedErrors):
        low, high = images.interval
        alone = {"alone": numbers.MISSING, "other": numbers.MISSING}
        return said | alone | {"points": f"{images.difference:+.3f} MSE", "interval": f"{low:+.3f} to {high:+.3f}"}
    return said | {
        "points": points(images.difference),
        "interval": f"{points(images.interval[0])} to {points(images.interval[1])}",
        "alone": str(images.only_first),
        "other": str(images.only_second),
    }


def _curves(reader: Reader, records: list[RunRecord]) -> list[Any]:
    """Best of the search over trials, where runs searched by the same fitness."""
    of_fitness: dict[Fitness, list[tuple[str, list[tuple[float, float]]]]] = {}
    for record in records:
        search = reader.search(record)
        if search is not None:
            of_fitness.setdefault(search.fitness, []).append((record.name, search.best_so_far()))
    drawn = [
        plot("Best of the search", "trials", fitness_name(fitness), lines) for fitness, lines in of_fitness.items()
    ]
    return [one for one in drawn if one is not None]
