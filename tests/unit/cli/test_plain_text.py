"""Nothing that a person wrote is printed as markup."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.table import Table

import glorasearch
from glorasearch.plain_console import PlainConsole
from glorasearch.runs.bars import ProgressBars
from glorasearch.terminal import say, shown

WRITTEN = ("pl[ai]n", "c[/red]", "[/bold]", "[link=x]y[/link]", ":smile:", "a\\[b]", "[bold]")


@pytest.mark.parametrize("written", WRITTEN)
def test_what_looks_like_markup_is_printed_as_it_is(written: str, capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    console = PlainConsole(file=stream, width=80)
    table = Table(title=f"title {written}")
    table.add_column(f"column {written}")
    table.add_row(f"cell {written}", style="bold")
    console.print(table)
    console.print(f"line {written}")
    say(f"said {written}")
    for text in (f"title {written}", f"column {written}", f"cell {written}", f"line {written}"):
        assert text in stream.getvalue()
    assert capsys.readouterr().out == f"said {written}\n"


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("written", WRITTEN)
def test_progress_too(written: str, terminal: bool) -> None:
    stream = io.StringIO()
    bars = ProgressBars(PlainConsole(file=stream, width=200, force_terminal=terminal, color_system=None))
    bars.say(f"said {written}")
    with bars.task(f"task {written}", 3) as advance:
        advance(3, f"note {written}")
    for text in (f"said {written}", f"task {written}", f"note {written}"):
        assert text in stream.getvalue()


def test_control_characters_are_visible() -> None:
    assert shown("a\x1b[2Jb\rc\x00\udce9\u202ed\n\te") == "a\\x1b[2Jb\\rc\\x00\\udce9\\u202ed\n\te"


def test_nothing_is_printed_past_the_plain_console() -> None:
    """A `Console` of rich reads markup; `click.echo` and `print` show control characters and credentials."""
    root = Path(glorasearch.__file__).parent
    allowed = {"terminal.py", "plain_console.py", "cli/output.py", "export/example.py"}  # the last is a text
    for path in root.rglob("*.py"):
        if str(path.relative_to(root)) not in allowed:
            found = re.findall(
                r"rich\.console import|click\.(?:echo|secho)\(|(?<![\w.])print\(", path.read_text("utf-8")
            )
            assert not found, path
