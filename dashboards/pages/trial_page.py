"""A trial: every gene, what it was bred from, what sets it apart from its parents and from the best."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dashboards.pages.numbers import worth_text
from dashboards.pages.reading import Reader, Search
from dashboards.pages.runs_page import FAST
from glorasearch.data.names import natural_key
from glorasearch.db import RunRecord
from glorasearch.errors import GlorasearchError
from glorasearch.figures import Figure, subnet
from glorasearch.runs.results import Results
from glorasearch.space import SUPPORT_TENSORS, fitness_name


@dataclass(frozen=True, slots=True)
class Cell:
    """A gene in the picture of a subnet."""

    choice: str
    before: str = ""
    """The other one's choice, where it differs."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Layers x support tensors."""

    tensors: tuple[str, ...]
    layers: tuple[tuple[str, tuple[Cell | None, ...]], ...]
    legend: tuple[tuple[str, int], ...]
    """Choice → genes that have it, the commonest first."""


def picture(genes: Mapping[str, str], other: Mapping[str, str] | None = None) -> Picture:
    """The picture of a subnet; `other` is what differences are marked against."""
    of_layer: dict[str, dict[str, Cell]] = {}
    counts: dict[str, int] = {}
    for name, choice in genes.items():
        layer, _, tensor = name.rpartition(".")
        before = "" if other is None or other.get(name, choice) == choice else other[name]
        of_layer.setdefault(layer, {})[tensor] = Cell(choice, before)
        counts[choice] = counts.get(choice, 0) + 1
    tensors = tuple(tensor for tensor in SUPPORT_TENSORS if any(tensor in cells for cells in of_layer.values()))
    layers = tuple((layer, tuple(cells.get(one) for one in tensors)) for layer, cells in sorted_layers(of_layer))
    return Picture(tensors, layers, tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))))


def sorted_layers(of_layer: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """In the order of depth: `blocks.10` after `blocks.9`."""
    return sorted(of_layer.items(), key=lambda pair: natural_key(pair[0]))


def context(reader: Reader, record: RunRecord, number: int) -> dict[str, Any] | None:
    """What the template of a trial needs; None if there is none of that number."""
    search = reader.search(record)
    by_number = {} if search is None else {one.number: one for one in search.trials}
    trial = by_number.get(number)
    if search is None or trial is None:
        return None
    fixed = fixed_genes(record)
    found = fixed | reader.genes(trial.trial_id)
    genes = {name: found[name] for name in in_order(found)}
    best, parents = search.best, [by_number[one] for one in trial.parents if one in by_number]
    against = None if best is None or best.number == number else fixed | reader.genes(best.trial_id)
    bred = [(parent, differing(genes, fixed | reader.genes(parent.trial_id))) for parent in parents]
    numbers, ranks = sorted(by_number), ranks_of(search)
    place = numbers.index(number)
    return {
        "record": record,
        "search": search,
        "trial": trial,
        "worth": worth_text(search.fitness, trial.fitness),
        "fitness": fitness_name(search.fitness),
        "picture": picture(genes, against),
        "genes": len(genes),
        "best": best,
        "best_worth": "" if best is None else worth_text(search.fitness, best.fitness),
        "changed": [] if against is None else differing(genes, against),
        "bred": bred,
        "children": [one for one in search.trials if number in one.parents],
        "rank": (ranks[number], len(ranks)) if number in ranks else None,
        "before": numbers[place - 1] if place else None,
        "after": numbers[place + 1] if place + 1 < len(numbers) else None,
        "live": FAST if trial.state in ("running", "waiting") else None,
    }


def drawing(reader: Reader, record: RunRecord, number: int) -> Figure | None:
    """The subnet of a trial as a figure; None if there is no such trial, or nothing is chosen yet."""
    search = reader.search(record)
    trial = None if search is None else next((one for one in search.trials if one.number == number), None)
    genes = {} if trial is None else reader.genes(trial.trial_id)
    if search is None or not genes:
        return None
    fixed, best = fixed_genes(record), search.best
    against = None if best is None or best.number == number else fixed | reader.genes(best.trial_id)
    return subnet(number, fixed | genes, against)


def differing(genes: Mapping[str, str], other: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(Gene, the other's choice, this one's) where they differ, in the order of `genes`."""
    return [(name, other[name], choice) for name, choice in genes.items() if other.get(name, choice) != choice]


def in_order(names: Iterable[str]) -> list[str]:
    """Genes by the depth of their layers, those of a layer by name."""
    return sorted(names, key=lambda name: (natural_key(name.rpartition(".")[0]), name))


def fixed_genes(record: RunRecord) -> dict[str, str]:
    """Genes of the search's winner: those with one choice are not recorded with trials."""
    try:
        found = Results(record.stages, record.name).search
    except GlorasearchError:
        return {}
    return {} if found is None else {f"{layer}.{tensor}": choice for (layer, tensor), choice in found.subnet.items()}


def ranks_of(search: Search) -> dict[int, int]:
    """Trial → its place among those that were evaluated to the end, from 1; equal ones share it."""
    from glorasearch.search.trials import rank

    ranks = {one.number: rank(search.fitness, one.record) for one in search.trials if one.record and one.full}
    ordered = sorted(ranks.values())
    return {trial: 1 + bisect_left(ordered, own) for trial, own in ranks.items()}
