"""A run under way on a terminal: a line for each stage, and a bar for the one that is being done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from glorasearch.cli.standing import age
from glorasearch.plain_console import PlainConsole
from glorasearch.quantities import about, percent
from glorasearch.runs.spent import is_part
from glorasearch.runs.watched import Watched, WatchedStage
from glorasearch.terminal import shown

_MARKS: Final = {
    "finished": ("✓", "+", "green"),
    "running": ("▸", ">", "bold cyan"),
    "waiting": ("·", ".", "dim"),
    "stopped": ("■", "-", "yellow"),
    "interrupted": ("■", "-", "yellow"),
    "failed": ("✗", "x", "bold red"),
}
"""State → its sign, that of a terminal without Unicode, and its style."""
_AROUND: Final = 10
"""Lines above and below the stages, at most."""
_UNLIMITED: Final = 1_000_000
_PLACES: Final = 4
"""Hosts of workers that are named."""
_LONGEST: Final = 66
"""Columns of the bar."""
_WIDE: Final = 60
"""Columns from which on the details stand beside the stage."""


def watch_view(found: Watched, console: PlainConsole, waited: float = 0.0, *, fit: bool = False) -> Table:
    """What `watch` draws of a run at one moment: head, stages, bar, what is known of the best.

    Args:
        found: the run.
        console: it is drawn on; its size and its signs count.
        waited: seconds since this state was first seen.
        fit: leave out stages that the screen has no room for.
    """
    view, record, current = Table.grid(), found.record, found.current
    view.add_row(Text(shown(headline(found)), style="bold"))
    view.add_row(Text(shown(", ".join(_described(found))), style="dim"))
    view.add_row(_stages(found, console, waited, console.height - _AROUND if fit else _UNLIMITED))
    row = None if current is None else current.progress
    if row is not None and row.total:
        bar, share = Table.grid(padding=(0, 1, 0, 0)), f"{100 * min(1, row.done / row.total):.0f} %"
        width = max(8, min(_LONGEST, console.width - 6))
        bar.add_row(ProgressBar(total=row.total, completed=row.done, width=width), Text(share))
        view.add_row(bar)
    notes = [] if row is None else [row.title, row.note]
    for line in filter(None, [*notes, "" if found.best in notes else found.best]):
        view.add_row(Text(shown(line)))
    if current is not None and current.stage.startswith("search"):
        view.add_row(Text(shown(workers_said(found))))
    if record.error:
        view.add_row(Text(shown(record.error), style="red"))
    return view


def _stages(found: Watched, console: PlainConsole, waited: float, room: int) -> Table:
    table, wide = Table.grid(padding=(0, 2, 0, 0)), console.width >= _WIDE
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold" if wide else "ellipsis")
    before, stages, after = _fitting(found.stages, max(3, room))
    if before:
        table.add_row(Text(f"  {before} before", style="dim"), Text(""))
    for stage in stages:
        sign, ascii_sign, style = _MARKS[stage.state]
        part = "  " * is_part(stage.label)
        name = Text(shown(f"{ascii_sign if console.options.ascii_only else sign} {part}{stage.label}"), style=style)
        parts = list(details(stage, waited))[: None if wide else 2]
        table.add_row(name, Text(shown(", ".join(parts)), style="" if stage.state == "running" else "dim"))
    if after:
        table.add_row(Text(f"  {after} after", style="dim"), Text(""))
    return table


def _fitting(stages: Sequence[WatchedStage], room: int) -> tuple[int, Sequence[WatchedStage], int]:
    """How many of the first stages are left out, those that are shown, and how many of the last are left out."""
    under_way = [number for number, stage in enumerate(stages) if stage.state == "running"]
    first = min(max(0, len(stages) - room), under_way[0] if under_way else len(stages))
    return first, stages[first : first + room], max(0, len(stages) - first - room)


def headline(found: Watched) -> str:
    """Name, state, age and, if there is one, score of a run."""
    record = found.record
    measured = scores_said(found)
    owner = f" by process {record.owner.pid} on {record.owner.host}" if record.owner is not None else ""
    state = f"{record.state}{owner if found.under_way else ''}"
    begun = f"began {age(record.created.isoformat())} ago"
    left = [] if found.seconds_left is None else [f"at most about {about(round(found.seconds_left))} left"]
    return ", ".join((f"run {record.name}: {state}", begun, *left, *measured))


def scores_said(found: Watched) -> list[str]:
    """The accuracies that are known, or errors of numbers."""
    values, said = found.to_json(), []
    for split in ("test", "search"):
        if values[f"{split}_accuracy"] is not None:
            said.append(f"{split} accuracy {percent(values[f'{split}_accuracy'])}")
        elif values.get(f"{split}_error") is not None:
            said.append(f"{split} squared error {values[f'{split}_error']:.3f}")
    return said


def workers_said(found: Watched) -> str:
    """How many workers evaluate, how busy they are, and where they are."""
    ready = [one for one in found.workers if one.ready]
    if not ready:
        return f"none of {len(found.workers)} workers is ready" if found.workers else ""
    count = f"{len(ready)} of {len(found.workers)} workers"
    busy = f"{100 * sum(one.share for one in ready) / len(ready):.0f} % of their time busy"
    places = Counter(one.host for one in ready)
    where = ", ".join(f"{host} ({count})" if count > 1 else host for host, count in places.most_common(_PLACES))
    more = f" and {len(places) - _PLACES} more" if len(places) > _PLACES else ""
    return f"{count}, {busy}, on {where}{more}"


def details(stage: WatchedStage, waited: float = 0.0) -> Iterator[str]:
    """How far a stage is, how fast, and how long it takes still."""
    row = stage.progress
    if row is None:
        if stage.seconds:
            yield about(stage.seconds)
        return
    if stage.state not in ("running", "finished"):
        yield str(stage.state)
    if row.total:
        yield f"{row.done:,}/{row.total:,} {stage.unit}".rstrip() if stage.unit else f"{row.done}/{row.total}"
    if stage.state == "running":
        left = row.seconds_left(row.updated)
        if left is not None:
            yield f"{about(max(0.0, left - waited))} left"
        if row.rate is not None and stage.unit:
            yield f"{three(row.rate)} {stage.unit}/s"
        if left is None:
            yield f"for {about(stage.seconds + waited)}"
    else:
        yield about(stage.seconds)


def three(number: float) -> str:
    """A number with three significant digits."""
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def _described(found: Watched) -> list[str]:
    values = found.to_json()
    return [str(values[key]) for key in ("data", "backbone", "space") if values[key]]
