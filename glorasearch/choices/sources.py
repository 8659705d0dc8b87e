"""The code of methods from outside, as a digest: weights that were trained with other code are other weights."""

from __future__ import annotations

import functools
import hashlib
import inspect
from pathlib import Path

from glorasearch.choices.base import Choice

_OWN = __name__.partition(".")[0]
_NO_CODE = ("builtins", "abc", "typing")


@functools.cache
def source_digest(choice: type[Choice]) -> str | None:
    """SHA-256 of the files that define a class and its bases outside glorasearch; None if one has no file.

    It is read once a class: called when the class was just imported, it is that of the code that runs. What these files
    import from elsewhere is not in it.
    """
    digest = hashlib.sha256()
    for part in choice.__mro__:
        if part.__module__.partition(".")[0] == _OWN or part.__module__ in _NO_CODE:
            continue
        try:
            path = inspect.getsourcefile(part)
            content = None if path is None else Path(path).read_bytes()
        except (OSError, TypeError):
            content = None
        if content is None:
            return None
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()
