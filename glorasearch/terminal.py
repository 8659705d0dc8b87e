"""What is printed: plain text. Nothing in it is markup, a control sequence or a credential, whoever wrote it."""

from __future__ import annotations

import re
from typing import Final

import click

from glorasearch.redact import redact

_INVISIBLE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and line feed, those that reorder text, and what Python makes of odd bytes."""


def is_text(text: str) -> bool:
    """Whether a text can be written as UTF-8; what Python makes of a path with other bytes cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(text: str) -> str:
    """A text as it is printed: without credentials, and with control characters as Python writes them, `\\x1b`."""
    return _INVISIBLE.sub(lambda found: found.group().encode("unicode_escape").decode(), redact(text))


def say(text: str = "", *, err: bool = False) -> None:
    """Print a line."""
    click.echo(shown(text), err=err)
