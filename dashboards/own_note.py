"""A run's own note within the note that Optuna's pages show: first what a person wrote, below it what is made anew."""

from __future__ import annotations

from typing import Final

from dashboards.markdown import plain
from glorasearch.errors import InputError

BELOW: Final = "*What follows is made anew at each look; a note of your own goes above this line.*"
_RULE: Final = "---"


def head(run: str) -> str:
    """How what is made begins."""
    return f"| Run | {plain(run)} |"


def joined(own: str, made: str, *, editable: bool) -> str:
    """The note that is shown.

    Args:
        own: what a person wrote.
        made: what is made anew.
        editable: whether it can be changed: then it says where.
    """
    border = [_RULE, BELOW] if editable else [_RULE] if own else []
    return "\n\n".join(filter(None, [own, *border, made]))


def own_part(shown: str, run: str) -> str:
    """What a person has written in such a note, as Optuna's pages send it back.

    Raises:
        InputError: if nobody can tell where it ends.
    """
    own, border, _ = shown.replace("\r\n", "\n").rpartition(BELOW)
    if border:
        return own.strip().removesuffix(_RULE).strip()
    if head(run) in shown:
        raise InputError(f"the line {BELOW!r} is gone: put it back below your note, or open the note again")
    return shown
