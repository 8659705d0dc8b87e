"""Names of files and classes: their order, and how they are shown and checked."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from glorasearch.data.problems import Problems

_UNSHOWN = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories that no class name may have: control characters, bytes that are not UTF-8, line separators."""
NaturalKey = tuple[list[int | str], str]


def natural_key(name: str) -> NaturalKey:
    """Sort key that orders digits in names by value, ignoring case: timm's `natural_key`; the name breaks ties.

    `class2` is before `class10`, and `1_red` before `blue`.
    """
    parts = re.split(r"(\d+)", name.lower())
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def file_key(name: str) -> tuple[bool, NaturalKey]:
    """The same for the files of a class, those that begin with a digit last; it decides which are drawn for a split."""
    return re.match(r"\d", name) is not None, natural_key(name)


def shown(name: str | Path) -> str:
    """A name as one line of printable text; bytes that are not UTF-8 and control characters become escapes."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace") if _has_bytes(str(name)) else str(name)
    return "".join(char if unicodedata.category(char) not in _UNSHOWN else repr(char)[1:-1] for char in text)


def one_form(name: str) -> str:
    """The name in Unicode's composed form (NFC): file systems and archives spell accents in either."""
    return unicodedata.normalize("NFC", name)


def check_class_names(names: Sequence[str], problems: Problems) -> None:
    """Note every name that cannot be printed, stored or published."""
    for name in names:
        if _has_bytes(name):
            problems.add(f"class '{shown(name)}': its name is not UTF-8; rename it")
        elif any(unicodedata.category(char) in _UNSHOWN for char in name):
            problems.add(f"class '{shown(name)}': its name has a control character or a line break; rename it")
        elif not name.strip():
            problems.add(f"class {name!r}: its name is blank; rename it")


def _has_bytes(name: str) -> bool:
    """Whether it has bytes that are not UTF-8, as Python keeps them."""
    return any("\ud800" <= char <= "\udfff" for char in name)
