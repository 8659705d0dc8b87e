"""Evaluations as one table, as timm's `train.py` writes them: `summary.csv`, with a row an evaluation."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from glorasearch.runs.curves.csv_files import number_text
from glorasearch.runs.curves.curves import Table
from glorasearch.runs.curves.rows import TEST, Row

NAME: Final = "summary.csv"
_FIRST: Final = ("stage", "model", "step", "train_loss", "lr")
_NO_EVALUATION: Final = {"loss", "lr", "gradient_norm", "images_per_second", "members", "seconds"}
_OF_TRAINING: Final = {"loss": "train_loss", "lr": "lr"}
_NO_TRAINING: Final = ("search", "race", "rungs", TEST)
_PAUSE_SECONDS: Final = 2.0
"""The table is written whole, so no more often than that while a training goes on."""


class SummaryFile:
    """A row for each measurement of fixed subnets in a training, and each model that the test split measured."""

    def __init__(self, folder: Path) -> None:
        """In a folder, which is made when there is something to write."""
        self._path, self._written = folder / NAME, 0.0
        self._due: Table | None = None

    @property
    def place(self) -> str:
        """The table."""
        return str(self._path)

    def append(self, row: Row, table: Table) -> None:
        """Write the table, if there is an evaluation among the points, now or soon."""
        if row.stage == TEST or (row.stage not in _NO_TRAINING and not row.values.keys() <= _NO_EVALUATION):
            self._due = table
            if time.monotonic() - self._written >= _PAUSE_SECONDS:
                self.rewrite(table)

    def rewrite(self, table: Table) -> None:
        """Write the table, if there are evaluations."""
        from glorasearch.weights.atomic import replace_file  # its package needs torch

        rows = [cells for stage, of_stage in table.items() for cells in _evaluations(stage, of_stage)]
        if rows:
            text = io.StringIO()
            columns = dict.fromkeys([*_FIRST, *(name for cells in rows for name in cells)])
            writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._path, text.getvalue().encode())
        self._due, self._written = None, time.monotonic()

    def close(self, state: str) -> None:
        """Write what is due."""
        if self._due is not None:
            self.rewrite(self._due)


def _evaluations(stage: str, rows: Mapping[int, Row]) -> Iterator[dict[str, str]]:
    """The rows of the table: of a training one for each step that was evaluated, of the test one for each model."""
    latest: dict[str, float] = {}
    for step in sorted(rows) if stage not in _NO_TRAINING else ():
        values = rows[step].values
        latest |= {column: values[name] for name, column in _OF_TRAINING.items() if name in values}
        measured = {f"eval_{name.removeprefix('search_')}": values[name] for name in values.keys() - _NO_EVALUATION}
        if measured:
            yield {"stage": stage, "step": str(step)} | _texts(latest) | _texts(dict(sorted(measured.items())))
    for row in rows.values() if stage == TEST else ():
        for model, numbers in _by_model(row.values).items():
            measured = {f"eval_{name}": value for name, value in numbers.items()}
            yield {"stage": TEST, "model": model, "step": str(row.step)} | _texts(measured)


def _texts(numbers: Mapping[str, float]) -> dict[str, str]:
    return {name: number_text(value) for name, value in numbers.items()}


def _by_model(values: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """The numbers of a test by what they are of: `baseline/lora/auc` is of `lora`, `auc` of the winner."""
    found: dict[str, dict[str, float]] = {}
    for name, value in values.items():
        start, _, rest = name.partition("/")
        model, _, number = rest.rpartition("/") if start == "baseline" else ("winner", "", name)
        found.setdefault(model, {})[number] = value
    return found
