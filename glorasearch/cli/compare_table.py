"""Compared runs, as a table for the terminal and as one in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.measure import Measurement
from rich.table import Table

from glorasearch.cli.pair_table import pair_cells
from glorasearch.db import RunState
from glorasearch.plain_console import PlainConsole
from glorasearch.quantities import MISSING
from glorasearch.runs.compare import Comparison, Group, Row
from glorasearch.runs.pairs import Paired
from glorasearch.tasks.kinds import words_of
from glorasearch.terminal import say

CLASSES = words_of("classify").accuracy
"""What accuracies are called where they need no words."""
WIDE = 1000
"""Columns in which nothing is wrapped."""
NARROW = 80
"""Columns for output that is not a terminal."""
FIRST = ("test, %", "test, MSE", "state", "points", "says")
"""What people look at, of a row that is shown upright."""
ERRORS = ("search_error", "out_of_fold_error", "test_error", "test_r2")
"""What a row has in place of accuracies, where images have numbers."""
Cells = list[list[str]]


def print_table(found: Comparison) -> None:
    """Print tables for the terminal: the rows, then the pairs; what is too wide for it, with a column for each row."""
    console = PlainConsole()
    if not console.is_terminal:
        console = PlainConsole(width=NARROW)
    for heads, texts, cells in _tables(found):
        table = _table(heads, texts, cells)
        if _width(table) <= console.width:
            console.print(table)
        else:
            _print_upright(console, *_first_things_first(heads, cells))
    _print_notes(found)


def _table(heads: list[str], texts: int, cells: Cells) -> Table:
    table = Table()
    for number, head in enumerate(heads):
        table.add_column(head, justify="left" if number < texts else "right", overflow="fold")
    for line in cells:
        table.add_row(*line)
    return table


def _width(table: Table) -> int:
    """Columns of the terminal that a table takes where nothing of it is folded."""
    console = PlainConsole(width=WIDE)
    return Measurement.get(console, console.options, table).maximum


def _first_things_first(heads: list[str], cells: Cells) -> tuple[list[str], Cells]:
    """The name, then score and state, then the rest."""
    first = {0: -1} | {heads.index(head): place for place, head in enumerate(FIRST) if head in heads}
    order = sorted(range(len(heads)), key=lambda number: first.get(number, len(FIRST) + number))
    return [heads[number] for number in order], [[line[number] for number in order] for line in cells]


def _print_upright(console: PlainConsole, heads: list[str], cells: Cells) -> None:
    """A column for each row, in as many tables as it takes."""
    left = list(cells)
    while left:
        for count in range(len(left), 0, -1):
            part = left[:count]
            upright = [[head, *(line[number] for line in part)] for number, head in enumerate(heads)]
            table = _table(upright[0], 1, upright[1:])
            if count == 1 or _width(table) <= console.width:
                break
        console.print(table)
        left = left[count:]


def print_markdown(found: Comparison) -> None:
    """Print the same tables in Markdown."""
    for number, (heads, texts, cells) in enumerate(_tables(found)):
        if number:
            say()
        _print_markdown(heads, texts, cells)
    _print_notes(found)


def _print_markdown(heads: list[str], texts: int, cells: Cells) -> None:
    marks = ["---" if number < texts else "---:" for number in range(len(heads))]
    for line in (heads, marks, *cells):
        bars = " | ".join(cell.replace("|", "\\|") for cell in line)
        say(f"|{'|'.join(line)}|" if line is marks else f"| {bars} |")


def _print_notes(found: Comparison) -> None:
    """What is not in the tables: accuracies of several labels an image, and runs that have no pair."""
    of: dict[str, list[str]] = {}
    for row in (one for each in found.rows for one in (each.rows if isinstance(each, Group) else (each,))):
        if row.accuracy != CLASSES:
            of.setdefault(row.accuracy, []).append(row.run)
    for meaning, runs in of.items():
        errors = "mean squared errors (MSE) of targets in deviations of the training images, not accuracies"
        say(f"{', '.join(runs)}: search, out of fold and test are {meaning or errors}")
    _print_unpaired(found.paired)


def _print_unpaired(paired: Paired) -> None:
    reasons: dict[str, list[str]] = {}
    for run, reason in paired.unpaired.items():
        reasons.setdefault(reason, []).append(run)
    for reason, runs in reasons.items():
        say(f"not paired: {', '.join(runs)} ({reason})")


def _tables(found: Comparison) -> list[tuple[list[str], int, Cells]]:
    """The table of rows, and that of pairs if there are any."""
    pairs = found.paired.rows
    return [_cells(found.rows), *([pair_cells(pairs)] if pairs else [])]


def _cells(rows: Sequence[Row] | Sequence[Group]) -> tuple[list[str], int, Cells]:
    """The heads, the number of text columns (which come first), and the cells."""
    groups = [row for row in rows if isinstance(row, Group)]
    single = [row for row in rows if isinstance(row, Row)]
    every = [*single, *(one for group in groups for one in group.rows)]
    shown = Shown(
        accuracy=any(row.accuracy for row in every),
        errors=any(not row.accuracy for row in every),
        raced=any((row.out_of_fold_accuracy, row.out_of_fold_error) != (None, None) for row in every),
    )
    measured = ["parameters", *shown.heads, "training, s", "searching, s", "bytes"]
    if groups:
        heads = ["method", "seeds", *measured]
        if len({group.task for group in groups}) > 1:
            return ["task", *heads], 2, [[group.task, *_group(group, shown)] for group in groups]
        return heads, 1, [_group(group, shown) for group in groups]
    if all(row.state is RunState.FINISHED for row in single):
        return ["run", "method", *measured], 2, [[row.run, row.method, *_row(row, shown)] for row in single]
    states = [[row.run, row.state.value, row.method, *_row(row, shown)] for row in single]
    return ["run", "state", "method", *measured], 3, states


def _row(row: Row, shown: Shown) -> list[str]:
    return [
        _number(row.parameters),
        *shown.cells(
            _with_interval(row.search_accuracy, row.search_interval),
            _tempered(row),
            _with_interval(row.out_of_fold_accuracy, None),
            _with_interval(row.test_accuracy, row.test_interval),
        ),
        *shown.errors_of(*(_error(getattr(row, name)) for name in ERRORS)),
        _seconds(row.training_seconds),
        _seconds(row.search_seconds),
        _number(row.adapter_bytes),
    ]


def _group(group: Group, shown: Shown) -> list[str]:
    return [
        group.method,
        str(len(group.counted)),
        _mean(group, "parameters"),
        *shown.cells(
            _mean(group, "search_accuracy", percent=True),
            _mean(group, "search_tempered", digits=3),
            _mean(group, "out_of_fold_accuracy", percent=True),
            _mean(group, "test_accuracy", percent=True),
        ),
        *shown.errors_of(*(_mean(group, name, digits=3) for name in ERRORS)),
        _mean(group, "training_seconds", seconds=True),
        _mean(group, "search_seconds", seconds=True),
        _mean(group, "adapter_bytes"),
    ]


@dataclass(frozen=True)
class Shown:
    """Which columns there are: those of accuracies, of errors where images have numbers, and of a race."""

    accuracy: bool
    errors: bool
    raced: bool

    @property
    def heads(self) -> list[str]:
        """Of both."""
        accuracies = self.cells("search, %", "tempered", "out of fold, %", "test, %")
        return accuracies + self.errors_of("search, MSE", "out of fold, MSE", "test, MSE", "test, R\u00b2")

    def cells(self, search: str, tempered: str, out_of_fold: str, test: str) -> list[str]:
        """Of accuracies."""
        return [search, tempered, *([out_of_fold] if self.raced else []), test] if self.accuracy else []

    def errors_of(self, search: str, out_of_fold: str, test: str, explained: str) -> list[str]:
        """Of errors."""
        return [search, *([out_of_fold] if self.raced else []), test, explained] if self.errors else []


def _error(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:,.0f}"


def _seconds(value: float | None) -> str:
    return MISSING if value is None else f"{value:,.{_digits(value)}f}"


def _digits(seconds: float) -> int:
    """One decimal below ten seconds."""
    return 1 if seconds < 10 else 0


def _with_interval(share: float | None, interval: tuple[float, float] | None) -> str:
    if share is None:
        return MISSING
    return f"{100 * share:.1f}" + (f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})" if interval else "")


def _tempered(row: Row) -> str:
    if row.search_tempered is None or row.search_temperature is None:
        return MISSING
    return f"{row.search_tempered:.3f} (T {row.search_temperature:.2f})"


def _mean(group: Group, name: str, *, percent: bool = False, seconds: bool = False, digits: int = 0) -> str:
    """The mean, with the standard deviation of accuracies and of whatever else differs between the seeds."""
    found = group.mean(name)
    if found is None:
        return MISSING
    scale, digits = (100, 2) if percent else (1, _digits(found.mean) if seconds else digits)
    spread = "" if found.std is None or (not percent and not found.std) else f" ± {scale * found.std:,.{digits}f}"
    return f"{scale * found.mean:,.{digits}f}{spread}"
