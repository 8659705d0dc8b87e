"""What Optuna's pages say of a trial: its genes in words, its descent, its place, and a picture of its subnet."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Mapping
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from dashboards.markdown import NOTE_TEXT, above, plain, table
from dashboards.pages.numbers import MISSING, number, percent, worth_text
from dashboards.pages.trial_page import fixed_genes, in_order, ranks_of
from glorasearch.db.objective_names import objective_in_words
from glorasearch.search.front import front
from glorasearch.space import SUPPORT_TENSORS

if TYPE_CHECKING:
    from _collections_abc import dict_items
    from collections.abc import Callable, Iterable

    from dashboards.pages.reading import Outline, Search
    from glorasearch.db import RunRecord

Genes = dict[str, str]
"""Gene → choice."""
Chosen = tuple[str | None, ...]
"""The choice of every gene of a search, by depth; None where a trial has not got so far."""

_NAMED: Final = 5
"""Of the genes that differ from another trial's, so many are named; the others are on the trial's page."""
_VERSION: Final = re.compile(r"dashboard:([0-9]{1,18}):note_ver")
"""Optuna's system attribute, of a study, that says which version the note of a trial has."""


@cache
def _escaped(name: str | None) -> str:
    """The name of a gene or choice as Markdown: there are some hundred, written thousands of times."""
    return MISSING if name is None else plain(name)


class TrialNotes:
    """The notes of the trials of one search in one of its states; each is composed when it is first asked for.

    Args:
        record: of the run.
        search: its trials.
        genes: reads what all its trials have chosen, by trial id; asked once, for the first note.
    """

    def __init__(self, record: RunRecord, search: Search, genes: Callable[[], dict[int, Genes]]) -> None:
        self.search = search
        self._record, self._read = record, genes
        self._texts: dict[int, str] = {}
        self._by_id = {one.trial_id: one for one in search.trials}
        self._lock = threading.Lock()

    def __contains__(self, trial_id: int) -> bool:
        return trial_id in self._by_id

    def text(self, trial_id: int) -> str:
        """The note of a trial, as Markdown."""
        with self._lock:
            found = self._texts.get(trial_id)
            if found is None:
                found = self._texts[trial_id] = self._compose(self._by_id[trial_id])
            return found

    @cached_property
    def _found(self) -> dict[int, Genes]:
        return self._read()

    @cached_property
    def _fixed(self) -> dict[str, str]:
        return fixed_genes(self._record)

    @cached_property
    def _names(self) -> list[str]:
        """All genes, by depth."""
        return in_order({*self._fixed}.union(*self._found.values()))

    @cached_property
    def _chosen(self) -> dict[int, Chosen]:
        """Trial → the choices of all genes."""
        found, none = self._found, dict[str, str]()
        of_trial = {one.number: self._fixed | found.get(one.trial_id, none) for one in self.search.trials}
        return {trial: tuple(map(genes.get, self._names)) for trial, genes in of_trial.items()}

    @cached_property
    def _tensors(self) -> dict[str, list[int]]:
        """Support tensor → the places of its genes."""
        places: dict[str, list[int]] = {}
        for place, name in enumerate(self._names):
            places.setdefault(name.rpartition(".")[2], []).append(place)
        return {tensor: places[tensor] for tensor in SUPPORT_TENSORS if tensor in places}

    @cached_property
    def _ranks(self) -> dict[int, int]:
        return ranks_of(self.search)

    @cached_property
    def _front(self) -> frozenset[int]:
        records = (one.record for one in self.search.trials if one.record is not None)
        return frozenset(one.number for one in front(records, (self.search.fitness, "parameters")))

    def _compose(self, trial: Outline) -> str:
        best, chosen = self.search.best, self._chosen[trial.number]
        rows = {objective_in_words(self.search.fitness).capitalize(): self._worth(trial, best)}
        if trial.full and trial.accuracy is not None:
            rows["Accuracy, search split"] = percent(trial.accuracy)
        rows |= {"Parameters": number(trial.parameters), "Place": self._place(trial), "Descent": self._descent(trial)}
        for other in trial.parents:
            if other in self._chosen:
                rows[f"Changed against trial {other}"] = self._changes(chosen, self._chosen[other])
        if best is not None and best.number != trial.number:
            rows[f"Apart from the best, trial {best.number}"] = self._changes(chosen, self._chosen[best.number])
        rows |= {
            f"{tensor} of the layers": _in_words(chosen[one] for one in self._tensors[tensor])
            for tensor in self._tensors
        }
        reason = f"\n\n**Failed**: {plain(trial.reason)}" if trial.reason else ""
        page = self._page(trial.number)
        dots = (
            "" if best is None or best is trial else f" A dot: trial {best.number}, the best, has another choice there."
        )
        picture = f"{dots}\n\n![Trial {trial.number}, gene by gene]({page}/genes.png)" if any(chosen) else ""
        return (
            f"{table((f'Trial {trial.number}', trial.state), rows)}{reason}\n\n"
            f"[The page of the trial]({page}): every gene, parents, children. "
            f"[The run {plain(self._record.name)}]({self._page()}).{picture}"
        )

    def _page(self, trial: int | None = None) -> str:
        run = f"/runs/{quote(self._record.name, safe='')}"
        return run if trial is None else f"{run}/trials/{trial}"

    def _link(self, trial: int) -> str:
        return f"[trial {trial}]({self._page(trial)})"

    def _changes(self, chosen: Chosen, other: Chosen) -> str:
        """Genes that differ, the first ones named: `3 genes: blocks.0.mlp.fc1.A none → lora:4, ...`."""
        places = [place for place, (own, its) in enumerate(zip(chosen, other, strict=True)) if own != its]
        if not places:
            return "no gene"
        named = ", ".join(
            f"{_escaped(self._names[one])} {_escaped(other[one])} → {_escaped(chosen[one])}" for one in places[:_NAMED]
        )
        more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
        return f"{len(places)} gene{'s' if len(places) > 1 else ''}: {named}{more}"

    def _worth(self, trial: Outline, best: Outline | None) -> str:
        fitness = self.search.fitness
        if trial.fitness is None:
            return MISSING
        own = f"{'' if trial.full else 'at best '}{worth_text(fitness, trial.fitness)}"
        if best is None or best.number == trial.number:
            return own
        return f"{own}; the best, {self._link(best.number)}, has {worth_text(fitness, best.fitness)}"

    def _place(self, trial: Outline) -> str:
        rank = self._ranks.get(trial.number)
        if rank is None:
            return MISSING if trial.record is None else "stopped early: certain to be no parent"
        place = f"{rank} of {len(self._ranks):,} evaluated to the end"
        if trial.number not in self._front:
            return place
        return f"{place}; **on the front**: no other trial beats it in both score and parameters"

    def _descent(self, trial: Outline) -> str:
        if trial.start:
            return f"the search started from it: {plain(trial.start)}"
        parents = [one for one in trial.parents if one in self._chosen]
        if not parents:
            return "drawn at random"
        return "bred from " + " and ".join(self._link(one) for one in parents)


class NotedTrials(dict[str, Any]):
    """System attributes of a study in which every trial has a note, composed as it is looked at.

    Optuna's pages look for the version of a trial's note, and then go through all attributes for its text: with the
    notes of 1,050 trials among them, a million comparisons. So only the text of the trial that was asked for last is
    among them. What somebody has written to a trial stands below ours.
    """

    def __init__(self, attrs: Mapping[str, Any], notes: TrialNotes) -> None:
        super().__init__(attrs)
        self._notes = notes
        self._asked: int | None = None

    def __contains__(self, key: object) -> bool:
        match = _VERSION.fullmatch(key) if isinstance(key, str) else None
        if match is None or int(match[1]) not in self._notes:
            return super().__contains__(key)
        self._asked = int(match[1])
        return True

    def __getitem__(self, key: str) -> Any:
        return int(time.time()) if key in self and not super().__contains__(key) else super().__getitem__(key)

    def items(self) -> dict_items[str, Any]:
        """The attributes, with the text of the trial whose version was looked for last."""
        if self._asked is None:
            return super().items()
        prefix = f"dashboard:{self._asked}:{NOTE_TEXT}"
        attrs = dict(super().items())
        text = above(self._notes.text(self._asked), attrs, prefix)
        return (
            {key: value for key, value in attrs.items() if not key.startswith(prefix)} | {f"{prefix}0": text}
        ).items()


def _in_words(choices: Iterable[str | None]) -> str:
    """How many layers have which choice, the commonest first: `none in 8, lora:4 in 4`."""
    counts = Counter(choice for choice in choices if choice is not None)
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{_escaped(choice)} in {count}" for choice, count in ordered)
