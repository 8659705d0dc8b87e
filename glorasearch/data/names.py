"""Names of files and classes: their order, and how they are shown and checked."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from glorasearch.data.problems import Problems

_UNSHOWN = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories that no class name may have: control characters, bytes that are not UTF-8, line separators."""
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that turn the text around them, so that a name reads as another."""
KERNEL = ("/proc", "/sys")
"""What is below is made up by the kernel: reading may block, and links lead anywhere."""
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
    return "".join(repr(char)[1:-1] if _unshown(char) else char for char in text)


def of_kernel(real: str) -> bool:
    """Whether a path without links lies where the kernel makes files up."""
    return real in KERNEL or real.startswith(tuple(f"{root}/" for root in KERNEL))


def describe_ignored(ignored: Mapping[str, int]) -> str:
    """Such as `12 files that end in .txt, 3 hidden files`; empty if there are none."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(ignored.items()))


def one_form(name: str) -> str:
    """The name in Unicode's composed form (NFC): file systems and archives spell accents in either."""
    return unicodedata.normalize("NFC", name)


def check_class_names(names: Sequence[str], problems: Problems) -> None:
    """Note every name that cannot be printed, stored or published."""
    for name in names:
        if _has_bytes(name):
            problems.add(f"class '{shown(name)}': its name is not UTF-8; rename it")
        elif any(map(_unshown, name)):
            problems.add(f"class '{shown(name)}': its name has a control character or a line break; rename it")
        elif not name.strip():
            problems.add(f"class {name!r}: its name is blank; rename it")


def _unshown(char: str) -> bool:
    return unicodedata.category(char) in _UNSHOWN or char in _TURNING


def _has_bytes(name: str) -> bool:
    """Whether it has bytes that are not UTF-8, as Python keeps them."""
    return any("\ud800" <= char <= "\udfff" for char in name)
