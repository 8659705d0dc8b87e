"""A run's own note within the note that Optuna's pages show: first what a person wrote, below it what is made anew."""

from __future__ import annotations

import re
from typing import Final

from dashboards.markdown import plain
from glorasearch.errors import InputError

BELOW: Final = "*What follows is made anew at each look; a note of your own goes above this line.*"
_RULE: Final = "---"
_FIGURE: Final = re.compile(r"!\[(.*)\]\(/runs/[^()\s]+\.png\)")
_ADDRESS: Final = re.compile(r"\(/runs[^()\s]*\)")


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


def own_part(shown: str, run: str, now: str) -> str:
    """What a person has written in such a note, as Optuna's pages send it back.

    Args:
        shown: the note that was sent.
        run: whose it is.
        now: the note as it is made now.

    Raises:
        InputError: if nobody can tell where it ends, or something was written where it would be lost.
    """
    own, border, below = shown.replace("\r\n", "\n").rpartition(BELOW)
    if border:
        if lost := _written(below, now.rpartition(BELOW)[2]):
            raise InputError(
                f"{lost[:80]!r} stands below the line {BELOW!r}, where it would be lost as everything there is made "
                "anew: put it above that line"
            )
        return own.strip().removesuffix(_RULE).strip()
    if head(run) in shown:
        raise InputError(f"the line {BELOW!r} is gone: put it back below your note, or open the note again")
    return shown


def _written(below: str, now: str) -> str:
    """The first line that was not made; empty if all were, be it for an earlier state or name of the run."""
    lines = [line.strip() for line in below.splitlines()]
    figures = [figure for line in lines if (figure := _FIGURE.fullmatch(line))]
    made = {_kind(line) for line in now.splitlines()}.union(*((_kind(one[0]), f"### {one[1]}") for one in figures))
    return next((line for line in lines if line and _kind(line) not in made), "")


def _kind(line: str) -> str:
    """What a line that is made is about: the name of a row without its value, others without addresses."""
    line = line.strip()
    if line.startswith("|") and line.endswith("|"):
        return "|".join(line.split("|")[:2])
    return _ADDRESS.sub("()", line)
