"""Comparison of stored runs: one row per run, or one row for runs that differ in their seeds only."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self, TypeVar

from glorasearch.db import RunRecord, RunState
from glorasearch.runs.comparability import incomparabilities
from glorasearch.runs.pairing import by_task, configuration_without, pair_methods, pair_models
from glorasearch.runs.pairs import Paired
from glorasearch.runs.paths import space_label
from glorasearch.runs.results import Results
from glorasearch.space import BYTES_PER_NUMBER
from glorasearch.statistics import wilson
from glorasearch.tasks.kinds import words_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """The results of a run; a number that is not there yet is None."""

    run: str
    state: RunState
    method: str
    """Name of the search space."""
    task: str
    """The source of its images."""
    accuracy: str
    """What the accuracies are the share of: `accuracy`, or `subset accuracy` with several labels an image, and what
    that is."""
    fixed_method: bool
    """Whether the space has a single subnet, so that there was no search."""
    seed: int
    winner: str | None
    """What is exported: a trial, or what won the race, such as `lora_r8 at 0.003`."""
    parameters: int | None
    """Trainable parameters of the winner, the head excluded."""
    stored: int | None
    """Numbers in the winner's adapters: its parameters and the directions that are stored but not trained."""
    search_accuracy: float | None
    """Of the winner with inherited weights, on the search split: the best of many trials. None if something else than
    the search's winner won the race; so are the other scores with inherited weights."""
    search_tempered: float | None
    """Its tempered cross-entropy there, nats."""
    search_temperature: float | None
    search_images: int | None
    out_of_fold_accuracy: float | None
    """Of what won the race, over the folds; None without a race."""
    test_accuracy: float | None
    """Of the winner after the refit (if it has steps), on the test split."""
    test_accuracy_inherited: float | None
    """Of the winner with inherited weights, on the test split."""
    search_error: float | None
    """Of numbers, in place of accuracies: mean squared errors of standardised targets."""
    out_of_fold_error: float | None
    test_error: float | None
    test_r2: float | None
    """And the share of the variance of the test images that is explained."""
    test_images: int | None
    training_seconds: float | None
    """Of pilots, training and refit, if finished, teachers included."""
    search_seconds: float | None
    """Of the search and the race."""

    @classmethod
    def of(cls, run: RunRecord) -> Self:
        """The row of a run, from the results of its stages."""
        results = Results(run.stages, run.name)
        pilot, train, search, test = results.pilot, results.train, results.search, results.test
        race, refit, pick, scored = results.race, results.refit, results.pick, results.search_of_pick
        teachers, judged = (None, None) if refit is None else (refit.teachers, refit.judged)
        training = [part.seconds for part in (pilot, train, refit, teachers, judged) if part is not None]
        finding = [part.seconds for part in (search, race) if part is not None]
        return cls(
            run=run.name,
            state=run.state,
            method=space_label(run.config["space"]["name"]),
            task=run.config["data"]["source"],
            accuracy=words_of(run.config["data"].get("task", "classify")).accuracy,
            fixed_method=train is not None and train.fixed_method,
            seed=run.config["seed"],
            winner=None if pick is None else pick.label,
            parameters=None if pick is None else pick.parameters,
            stored=None if pick is None else pick.stored,
            search_accuracy=None if scored is None else scored.search_accuracy,
            search_tempered=None if scored is None else scored.search_tempered,
            search_temperature=None if scored is None else scored.search_temperature,
            search_images=None if scored is None else scored.images,
            out_of_fold_accuracy=None if race is None else race.winner.last.accuracy,
            test_accuracy=None if test is None else test.test_accuracy,
            test_accuracy_inherited=None if test is None or scored is None else test.test_accuracy_inherited,
            search_error=scored.search_fitness if scored is not None and scored.search_accuracy is None else None,
            out_of_fold_error=None if race is None or race.judge != "squared_error" else race.winner.last.judged,
            test_error=None if test is None else test.test_error,
            test_r2=None if test is None or "r2" not in test.metrics else test.metrics["r2"].value,
            test_images=None if test is None else test.splits.test.images,
            training_seconds=sum(training) if training else None,
            search_seconds=sum(finding) if finding else None,
        )

    @property
    def search_interval(self) -> tuple[float, float] | None:
        """95 % interval of the search accuracy."""
        return _interval(self.search_accuracy, self.search_images)

    @property
    def test_interval(self) -> tuple[float, float] | None:
        """95 % interval of the test accuracy."""
        return _interval(self.test_accuracy, self.test_images)

    @property
    def adapter_bytes(self) -> int | None:
        """Size of the winner's adapters in float32, without head and file header."""
        return None if self.stored is None else BYTES_PER_NUMBER * self.stored

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        content = asdict(self)
        del content["stored"]
        return content | {
            "state": self.state.value,
            "search_interval": self.search_interval,
            "test_interval": self.test_interval,
            "adapter_bytes": self.adapter_bytes,
        }


@dataclass(frozen=True, slots=True)
class Mean:
    """A number averaged over the seeds."""

    mean: float
    std: float | None
    """Sample standard deviation; None for a single seed."""
    each: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Self | None:
        """The mean of the values that are not None; None if there is none."""
        known = tuple(float(value) for value in values if value is not None)
        if not known:
            return None
        return cls(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None, known)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"mean": self.mean, "std": self.std, "each": list(self.each)}


MEASURED: Final = (
    "parameters", "search_accuracy", "search_tempered", "search_temperature", "out_of_fold_accuracy",
    "test_accuracy", "test_accuracy_inherited", "search_error", "out_of_fold_error", "test_error", "test_r2",
    "training_seconds", "search_seconds", "adapter_bytes",
)  # fmt: skip
"""The numbers of a row that a group averages."""
INHERITED: Final = (
    "search_accuracy",
    "search_tempered",
    "search_temperature",
    "search_error",
    "test_accuracy_inherited",
)
"""Those that a winner has if the search found it."""


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that differ in their seeds only, as one row: the mean over the tested ones, or over all if none is."""

    rows: tuple[Row, ...]

    @property
    def counted(self) -> tuple[Row, ...]:
        """The runs that are averaged."""
        return tuple(row for row in self.rows if row.test_images is not None) or self.rows

    @property
    def method(self) -> str:
        """Name of the search space."""
        return self.rows[0].method

    @property
    def task(self) -> str:
        """The source of the images."""
        return self.rows[0].task

    def mean(self, name: str) -> Mean | None:
        """The mean of one of `MEASURED`; None also for scores with inherited weights that not every winner has."""
        values = [(row, getattr(row, name)) for row in self.counted]
        if name in INHERITED and any(value is None and row.winner is not None for row, value in values):
            return None  # the other columns are of all seeds
        return Mean.of(value for _, value in values)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        means = {name: self.mean(name) for name in MEASURED}
        return {
            "method": self.method,
            "task": self.task,
            "fixed_method": self.rows[0].fixed_method,
            "runs": [row.run for row in self.counted],
            "left_out": [row.run for row in self.rows if row not in self.counted],
            "seeds": [row.seed for row in self.counted],
        } | {name: None if mean is None else mean.to_dict() for name, mean in means.items()}


_RowOrGroup = TypeVar("_RowOrGroup", Row, Group)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rows, and warnings about what makes them hard to compare."""

    rows: Sequence[Row] | Sequence[Group]
    paired: Paired
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        rows = [row.to_dict() for row in self.rows]
        return {"rows": rows, **self.paired.to_dict(), "warnings": list(self.warnings)}


def compare(runs: Sequence[RunRecord], *, group: bool = False, sort: str | None = None) -> Comparison:
    """Compare runs; `group` folds those that differ in their seeds only, `sort` is one of `SORTS`.

    Pairs are those with the first run or method, whatever the order of the rows.
    """
    if not group:
        rows = [Row.of(run) for run in runs]
        warnings = tuple(incomparabilities(runs))
        return Comparison(rows if sort is None else sorted_by(rows, sort), pair_models(runs), warnings)
    groups = grouped(runs)
    warnings = (*(line for task in by_task(runs) for line in _incomparable_groups(task)), *left_out(groups))
    return Comparison(groups if sort is None else sorted_by(groups, sort), pair_methods(runs), warnings)


def grouped(runs: Sequence[RunRecord]) -> list[Group]:
    """Runs in groups, in the order of their first members."""
    groups: dict[str, list[Row]] = {}
    for run in runs:
        groups.setdefault(configuration_without(run.config), []).append(Row.of(run))
    return [Group(tuple(rows)) for rows in groups.values()]


def _incomparable_groups(runs: Sequence[RunRecord]) -> list[str]:
    return incomparabilities(runs, [[row.run for row in group.rows] for group in grouped(runs)])


def left_out(groups: Iterable[Group]) -> list[str]:
    """A line for every group that averages only some of its runs."""
    outside = [[row.run for row in group.rows if row not in group.counted] for group in groups]
    return [f"{', '.join(names)}: not tested yet, left out of the mean" for names in outside if names]


SORTS: Final = ("method", "parameters", "search", "test", "seconds")
"""Sort keys: accuracies in descending order, all others ascending; missing values come last."""


def sorted_by(rows: Sequence[_RowOrGroup], key: str) -> list[_RowOrGroup]:
    """The sorted rows; equal ones keep their order."""

    def sort_key(row: _RowOrGroup) -> tuple[bool, Any]:
        if key == "method":
            return False, row.method
        if key == "seconds":
            parts = [_number(row, "training_seconds"), _number(row, "search_seconds")]
            found = None if None in parts else sum(part or 0.0 for part in parts)
        else:
            found, accurate = _number(row, {"search": "search_accuracy", "test": "test_accuracy"}.get(key, key)), True
            if found is None and key in ("search", "test"):
                found, accurate = _number(row, f"{key}_error"), False
            return found is None, (found or 0.0) * (-1 if key in ("search", "test") and accurate else 1)
        return found is None, found or 0.0

    return sorted(rows, key=sort_key)


def _number(row: Row | Group, name: str) -> float | None:
    if isinstance(row, Row):
        value: float | None = getattr(row, name)
        return value
    mean = row.mean(name)
    return None if mean is None else mean.mean


def _interval(share: float | None, images: int | None) -> tuple[float, float] | None:
    return None if share is None or not images else wilson(round(share * images), images)
