"""Selecting layers by name patterns."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase

from glorasearch.errors import SearchSpaceError


def select(names: Iterable[str], patterns: Iterable[str], key: str, others: Iterable[str] = ()) -> set[str]:
    """The names that match one of the patterns (`*` any run of characters, dots too; `?` one; `[ab]` one of).

    Args:
        names: layers to choose from.
        patterns: what to choose.
        key: where the patterns stand in a search space, for messages.
        others: layers that cannot be chosen, since their type is not one of the space's.

    Raises:
        SearchSpaceError: if a pattern matches nothing; the message names `key` and the nearest layers, or says that
            the pattern matches some of the others.
    """
    known = list(names)
    chosen: set[str] = set()
    for pattern in patterns:
        matches = {name for name in known if fnmatchcase(name, pattern)}
        if not matches:
            found = f"{key}: pattern {pattern!r} matches none of {len(known)} layers"
            elsewhere = [name for name in others if fnmatchcase(name, pattern)]
            if elsewhere:
                raise SearchSpaceError(
                    f"{found} of the types that the space adapts; it matches {len(elsewhere)} of another type, such as "
                    f'{elsewhere[0]}: give layers.types, such as types = ["linear", "conv2d"]'
                )
            near = difflib.get_close_matches(pattern, known, n=3, cutoff=0.3) or known[:3]
            raise SearchSpaceError(f"{found}; the nearest are {', '.join(near) or 'none: there are no such layers'}")
        chosen |= matches
    return chosen
