"""Choice classes from outside the package: imported by their dotted names, and their code identified by a digest."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Iterable
from pathlib import Path

from glorasearch.choices.base import Choice
from glorasearch.choices.table import CHOICES, register
from glorasearch.dotted import load_object
from glorasearch.errors import SearchSpaceError

_OWN = __name__.partition(".")[0]
_NO_CODE = ("builtins", "abc", "typing")


def register_plugin(path: str) -> type[Choice]:
    """Import and `register` the choice class `package.module:Class`; returns the registered class.

    Raises:
        SearchSpaceError: if it cannot be imported, whatever its module raises, or is not a choice class.
    """
    try:
        found = load_object(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise SearchSpaceError(
            f"plugin {path!r} cannot be imported: {error}; write package.module:Class, of a module that is installed "
            "or lies in a folder of PYTHONPATH"
        ) from error
    except Exception as error:
        raise SearchSpaceError(
            f"plugin {path!r} cannot be imported: its module raises {type(error).__name__}: {error}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Choice)):
        raise SearchSpaceError(f"plugin {path!r} is not a subclass of glorasearch.choices.Choice")
    register(found)
    source_digest(found)
    return CHOICES[found.name]


def plugin_sources(paths: Iterable[str]) -> dict[str, str | None]:
    """The digest of each plugin's code, by path; None where no source file can be found."""
    return {path: source_digest(register_plugin(path)) for path in paths}


@functools.cache
def source_digest(choice: type[Choice]) -> str | None:
    """SHA-256 of the files that define a class and its bases outside glorasearch; None if one has no file.

    Weights that were trained with other code are other weights. The files are read once per class, when it has just
    been imported, so the digest is that of the code that runs. What these files import is not included.
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
