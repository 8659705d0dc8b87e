"""Progress bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from glorasearch.plain_console import PlainConsole
from glorasearch.runs.progress import Advance
from glorasearch.terminal import shown


class ProgressBars:
    """A bar for each piece of work; where there is no terminal, a line every `interval` seconds."""

    def __init__(self, console: PlainConsole | None = None, interval: float = 10.0) -> None:
        """On standard error, if no console is given."""
        self._console, self._interval = console or PlainConsole(stderr=True), interval

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """Show work of `total` units."""
        if self._console.is_terminal:
            with self._bar(title, total) as advance:
                yield advance
        else:
            with self._lines(title, total) as advance:
                yield advance

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, soft_wrap=True)

    @contextmanager
    def _bar(self, title: str, total: int) -> Iterator[Advance]:
        columns = (
            TextColumn("{task.description:<22}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
        )
        with Progress(*columns, console=self._console) as progress:
            bar = progress.add_task(shown(title), total=total, note="")

            def advance(done: int, note: str = "") -> None:
                progress.update(bar, completed=done, note=shown(note))

            yield advance

    @contextmanager
    def _lines(self, title: str, total: int) -> Iterator[Advance]:
        began = shown = time.monotonic()
        state = (0, "")

        def advance(done: int, note: str = "") -> None:
            nonlocal shown, state
            state = (done, note)
            if time.monotonic() - shown >= self._interval:
                shown = time.monotonic()
                self._line(title, total, *state, shown - began)

        yield advance
        self._line(title, total, *state, time.monotonic() - began)

    def _line(self, title: str, total: int, done: int, note: str, seconds: float) -> None:
        self._console.print(f"{title}: {done}/{total}, {seconds:.0f} s{', ' + note if note else ''}", soft_wrap=True)
