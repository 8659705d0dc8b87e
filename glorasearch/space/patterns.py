"""Selecting layers by name patterns."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase

from glorasearch.errors import SearchSpaceError


def select(names: Iterable[str], patterns: Iterable[str], source: str, key: str) -> set[str]:
    """The names that match one of the patterns (`*` any run of characters, dots too; `?` one; `[ab]` one of).

    Raises:
        SearchSpaceError: if a pattern matches nothing; the message names the nearest layers.
    """
    known = list(names)
    chosen: set[str] = set()
    for pattern in patterns:
        matches = {name for name in known if fnmatchcase(name, pattern)}
        if not matches:
            near = difflib.get_close_matches(pattern, known, n=3, cutoff=0.3) or known[:3]
            raise SearchSpaceError(
                f"search space {source}: {key}: pattern {pattern!r} matches no Linear layer of this backbone "
                f"({len(known)} layers); the nearest are {', '.join(near) or 'none: it has no Linear layers'}"
            )
        chosen |= matches
    return chosen
