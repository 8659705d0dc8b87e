"""The ranking of a race as a table."""

from __future__ import annotations

from typing import Final

from rich.table import Table

from glorasearch.cli.output import count, score
from glorasearch.plain_console import PlainConsole
from glorasearch.quantities import percent
from glorasearch.race import Judge
from glorasearch.runs.results import RaceRow, RaceSummary
from glorasearch.runs.results.race import folds_text
from glorasearch.space import fitness_name

SHOWN: Final = 12
"""Candidates in the table; the best of either kind are added."""
NARROW: Final = 100
"""Columns of a terminal below which the table leaves out steps and seconds, so that the candidates can be read."""


def print_race(race: RaceSummary, *, verdict: bool = True) -> None:
    """Print the ranking with the score after each rung, what the race cost, and in a sentence who won."""
    console = PlainConsole()
    rungs = max(len(candidate.scores) for candidate in race.candidates)
    table = Table(title=_title(race.judge), title_justify="left")
    table.add_column("", justify="right")
    table.add_column("candidate", overflow="fold")
    tempered = [] if race.judge == "squared_error" else ["tempered"]
    spent = ["steps", "s"] if console.width >= NARROW else []
    for head in ("parameters", *(folds_text(_folds(race, rung)) for rung in range(rungs)), *tempered, *spent):
        table.add_column(head, justify="right", no_wrap=True)
    best = [race.best("method"), race.best("searched"), race.best_own]
    shown = 0
    for place, candidate in enumerate(race.candidates, 1):
        if place <= SHOWN or candidate in best:
            shown += 1
            cells = str(place), *_cells(candidate, rungs, race.judge), *_spent(candidate)
            table.add_row(*cells[: len(table.columns)], style="bold" if place == 1 else None)
    console.print(table)
    left = len(race.candidates) - shown
    more = f"; {left} more candidates with --json" if left > 0 else ""
    cost = f"{race.trainings} trainings, {race.steps:,} steps in {race.seconds:.0f} s of training"
    console.print(f"{cost}{more}", soft_wrap=True)
    if verdict:
        console.print(f"{race.verdict()}.", soft_wrap=True)


def _title(judge: Judge) -> str:
    if judge in ("accuracy", "tempered"):
        return f"race: accuracy out of fold, judged by {fitness_name(judge)}"
    return f"race: {fitness_name(judge)} out of fold"


def _folds(race: RaceSummary, rung: int) -> int:
    return max(candidate.scores[rung].folds for candidate in race.candidates if len(candidate.scores) > rung)


def _cells(candidate: RaceRow, rungs: int, judge: Judge) -> list[str]:
    by_accuracy, last = judge in ("accuracy", "tempered"), candidate.last
    scores = [percent(one.accuracy) if by_accuracy else score(None, one.judged) for one in candidate.scores]
    return [
        candidate.label,
        count(candidate.parameters),
        *scores,
        *[""] * (rungs - len(scores)),
        *([] if judge == "squared_error" else ["diverged" if last.diverged else score(None, last.tempered)]),
    ]


def _spent(candidate: RaceRow) -> tuple[str, str]:
    return f"{candidate.steps:,}", f"{candidate.seconds:.0f}"
