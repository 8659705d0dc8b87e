"""A console of rich that prints texts as they are."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from glorasearch.terminal import shown


class PlainConsole(Console):
    """A console on which texts, also those in tables, stand as they are."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """A text as rich draws it; all that is printed passes here."""
        return super().render_str(shown(text), **options)
