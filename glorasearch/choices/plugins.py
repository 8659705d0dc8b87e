"""Choice classes from outside the package: imported by their dotted names, and their code identified by a digest."""

from __future__ import annotations

import functools
import hashlib
import inspect
import traceback
from collections.abc import Iterable
from pathlib import Path

from glorasearch.choices.base import Choice
from glorasearch.choices.table import CHOICES, register
from glorasearch.dotted import load_object
from glorasearch.errors import SearchSpaceError, message_of, reason, shortened
from glorasearch.interrupts import is_interrupt
from glorasearch.redact import redact

_OWN = __name__.partition(".")[0]
_NO_CODE = ("builtins", "abc", "typing")


def register_plugin(path: str) -> type[Choice]:
    """Import and `register` the choice class `package.module:Class`; returns the registered class.

    Raises:
        SearchSpaceError: if it cannot be imported, whatever its module raises, or is not a choice class.
    """
    try:
        found = load_object(path)
    except BaseException as error:  # a module may do anything, such as to end the process
        if is_interrupt(error):
            raise
        about_path = isinstance(error, (AttributeError, ValueError)) and not _is_by(error, path)
        if isinstance(error, ImportError) or about_path:
            raise SearchSpaceError(
                f"plugin {path!r} cannot be imported: {reason(error)}; write package.module:Class, of a module that is "
                "installed or lies in a folder of PYTHONPATH"
            ) from error
        raise SearchSpaceError(f"plugin {path!r} cannot be imported: its module raises {describe(error)}") from error
    if not (isinstance(found, type) and issubclass(found, Choice)):
        raise SearchSpaceError(f"plugin {path!r} is not a subclass of glorasearch.choices.Choice")
    register(found)
    source_digest(found)
    return CHOICES[found.name]


def _is_by(error: BaseException, path: str) -> bool:
    """Whether the code of the module that a path names raises an exception, which is then not about the path."""
    return any(
        frame.f_globals.get("__name__") == path.partition(":")[0] for frame, _ in traceback.walk_tb(error.__traceback__)
    )


def plugin_sources(paths: Iterable[str]) -> dict[str, str | None]:
    """The digest of each plugin's code, by path; None where no source file can be found."""
    return {path: source_digest(register_plugin(path)) for path in paths}


def fault_of(error: BaseException) -> str | None:
    """Whose fault an exception is that passed through the code of a plugin, and where it stands; None if it did not."""
    modules = {part.__module__: name for name, choice in CHOICES.items() for part in _foreign_parts(choice)}
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        module = frame.f_globals.get("__name__")
        if module in modules:
            place = f"{frame.f_code.co_filename}, line {line}, in {frame.f_code.co_name}"
            return f"choice {modules[module]!r} of plugin module {module} raises {describe(error)} ({place})"
    return None


def describe(error: BaseException) -> str:
    """Type and message of what outside code raised; of a `SystemExit` the call that it is."""
    if isinstance(error, SystemExit):
        return f"SystemExit, as sys.exit({error.code!r}) does"
    message = shortened(redact(message_of(error)))
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _foreign_parts(choice: type[Choice]) -> list[type]:
    """The class and its bases, as far as they are from outside the package."""
    return [
        part for part in choice.__mro__ if part.__module__.partition(".")[0] != _OWN and part.__module__ not in _NO_CODE
    ]


@functools.cache
def source_digest(choice: type[Choice]) -> str | None:
    """SHA-256 of the files that define a class and its bases outside glorasearch; None if one has no file.

    Weights that were trained with other code are other weights. The files are read once per class, when it has just
    been imported, so the digest is that of the code that runs. What these files import is not included.
    """
    digest = hashlib.sha256()
    for part in _foreign_parts(choice):
        try:
            path = inspect.getsourcefile(part)
            content = None if path is None else Path(path).read_bytes()
        except (OSError, TypeError):
            content = None
        if content is None:
            return None
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()
