"""Selecting layers by name patterns."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase

from glorasearch.errors import SearchSpaceError


def select(names: Iterable[str], patterns: Iterable[str], key: str) -> set[str]:
    """The names that match one of the patterns (`*` any run of characters, dots too; `?` one; `[ab]` one of).

    Raises:
        SearchSpaceError: if a pattern matches nothing; the message names `key` and the nearest layers.
    """
    known = list(names)
    chosen: set[str] = set()
    for pattern in patterns:
        matches = {name for name in known if fnmatchcase(name, pattern)}
        if not matches:
            near = difflib.get_close_matches(pattern, known, n=3, cutoff=0.3) or known[:3]
            raise SearchSpaceError(
                f"{key}: pattern {pattern!r} matches none of {len(known)} Linear layers; "
                f"the nearest are {', '.join(near) or 'none: there are no Linear layers'}"
            )
        chosen |= matches
    return chosen
