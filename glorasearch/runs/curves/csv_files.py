"""Curves as tables: a CSV file for each stage, with a row a step."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from glorasearch.identity import digest
from glorasearch.runs.curves.curves import Table
from glorasearch.runs.curves.rows import Row

FIRST: Final = ("step", "time")
"""The columns before those of the numbers."""
LONGEST_NAME: Final = 100
_AHEAD: Final = ("loss", "lr", "gradient_norm", "images_per_second", "trial", "fitness", "best_fitness", "mean_fitness",
                 "accuracy", "best_accuracy", "parameters", "best_parameters")  # fmt: skip


class CsvFiles:
    """`<stage>.csv` for each stage, each written whole, and appended to while its stage goes on."""

    def __init__(self, folder: Path) -> None:
        """In a folder, which is made when there is something to write."""
        self._folder = folder
        self._columns: dict[str, tuple[str, ...]] = {}
        self._last: dict[str, tuple[int, int]] = {}
        """Stage → its last step, and where its row begins in the file."""

    @property
    def place(self) -> str:
        """The tables of the folder."""
        return str(self._folder / "*.csv")

    def append(self, row: Row, table: Table) -> None:
        """Add a row, or numbers to the last one."""
        columns, of_stage = self._columns.get(row.stage), table[row.stage]
        if columns is None or not row.values.keys() <= set(columns):
            self._write(row.stage, of_stage)
            return
        text = _text([_cells(of_stage[row.step], columns)])
        last, begin = self._last[row.stage]
        with (self._folder / file_name(row.stage)).open("r+b") as file:
            if row.step == last:
                file.seek(begin)
                file.truncate()
            begin = file.seek(0, io.SEEK_END) if row.step != last else begin
            file.write(text.encode())
        self._last[row.stage] = row.step, begin

    def rewrite(self, table: Table) -> None:
        """Write all tables."""
        for stage, rows in table.items():
            self._write(stage, rows)

    def close(self, state: str) -> None:
        """Nothing is open."""

    def _write(self, stage: str, rows: Mapping[int, Row]) -> None:
        from glorasearch.weights.atomic import replace_file  # its package needs torch

        self._folder.mkdir(parents=True, exist_ok=True)
        columns = columns_of(rows.values())
        steps = sorted(rows)
        head = _text([[*FIRST, *columns], *(_cells(rows[step], columns) for step in steps[:-1])]).encode()
        replace_file(self._folder / file_name(stage), head + _text([_cells(rows[steps[-1]], columns)]).encode())
        self._columns[stage], self._last[stage] = columns, (steps[-1], len(head))


def columns_of(rows: Iterable[Row]) -> tuple[str, ...]:
    """The numbers of a stage: those that people look for first, then by name."""
    found = {name for row in rows for name in row.values}
    return tuple(sorted(found, key=lambda name: (_AHEAD.index(name) if name in _AHEAD else len(_AHEAD), name)))


def file_name(stage: str) -> str:
    """The file of a stage: `train.csv`, `baseline-lora.csv`; of a name that no file can have its start and digest."""
    plain = stage.replace(":", "-")
    if "/" not in plain and len(plain.encode()) <= LONGEST_NAME:
        return f"{plain}.csv"
    return f"{plain.replace('/', '-')[: LONGEST_NAME // 4]}-{digest({'stage': stage})[:8]}.csv"


def stored_times(folder: Path, stages: Iterable[str]) -> dict[tuple[str, int], float]:
    """(Stage, step) → when it was measured, as tables of earlier processes say; damaged ones say nothing."""
    found: dict[tuple[str, int], float] = {}
    for stage in stages:
        try:
            with (folder / file_name(stage)).open(encoding="utf-8", errors="replace", newline="") as file:
                for cells in csv.DictReader(file):
                    found[stage, int(cells["step"])] = datetime.fromisoformat(cells["time"]).timestamp()
        except (OSError, ValueError, KeyError, TypeError, OverflowError, csv.Error):
            continue
    return found


def _cells(row: Row, columns: Sequence[str]) -> list[str]:
    numbers = (row.values.get(name) for name in columns)
    when = datetime.fromtimestamp(row.time, UTC).isoformat(timespec="milliseconds")
    return [str(row.step), when, *("" if number is None else number_text(number) for number in numbers)]


def number_text(number: float) -> str:
    """A number that reads as the same one; whole ones without a point."""
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)


def _text(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
