"""Every exception that glorasearch raises on purpose.

::

    GlorasearchError
    ├── InputError                what the user gave is wrong; nothing was started (exit code 2)
    │   ├── SearchSpaceError      a search-space file, a subnet or a budget
    │   ├── ConfigError           a run file or an override of it
    │   ├── DataError             a data source, an image, a label, a split
    │   ├── BackboneError         a backbone that cannot be found, built or adapted
    │   ├── RunNotFoundError      a run name that the workspace does not know
    │   └── ChangedMeanwhileError somebody else has changed what was read
    └── RunError                  the run was started and failed (exit code 1)
        ├── NonFiniteLossError    training diverged
        ├── WorkerLostError       a process that trains together with others is gone
        ├── WeightStoreError      the weight store
        │   ├── WeightsNotFoundError
        │   └── WeightsCorruptError
        ├── DatabaseError         the database cannot be reached or read
        │   ├── ConnectionLostError   operations wait for the server and continue by themselves
        │   ├── SchemaTooNewError
        │   ├── DamagedRowError   a cell holds what no glorasearch has written
        │   └── RunLockedError    another live process owns the run or the study
        ├── SearchError           the search cannot continue
        ├── EvaluationError       one candidate could not be evaluated: data, not a crash
        │   └── OutOfMemoryError  where it was tried there is too little memory; elsewhere there may be enough
        └── ExportError           a merged model that does not hold what was promised

An error's message names the thing, what was found, what is allowed, and what to do next. It holds no credentials.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Final

from glorasearch.redact import redact


class GlorasearchError(Exception):
    """Base class of all errors that glorasearch raises on purpose."""

    exit_code = 1

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*(redact(given) if isinstance(given, str) else given for given in arguments))


class InputError(GlorasearchError):
    """What the user gave is wrong; it is refused before any work starts."""

    exit_code = 2


class SearchSpaceError(InputError):
    """A search-space file, a subnet or a budget that does not hold together."""


class ConfigError(InputError):
    """A run file, or a `--set` override of it, that cannot be used."""


class DataError(InputError):
    """A data source that cannot be read, or whose splits are not what they must be."""


class BackboneError(InputError):
    """A backbone that cannot be found, built or adapted."""


class RunNotFoundError(InputError):
    """A run that the workspace's database does not know."""


class ChangedMeanwhileError(InputError):
    """What is to be changed is not what was read: somebody else was faster. Nothing was changed."""


class RunError(GlorasearchError):
    """A run that was started and failed; what was finished before is kept."""


class NonFiniteLossError(RunError):
    """The training loss or a gradient became NaN or infinite."""


class WorkerLostError(RunError):
    """A process of a training on several is gone, or cannot be reached by the others."""


class WeightStoreError(RunError):
    """The weight store cannot be read or written."""


class WeightsNotFoundError(WeightStoreError):
    """No weights of that digest are in the store."""


class WeightsCorruptError(WeightStoreError):
    """Stored weights differ from their manifest."""


class DatabaseError(RunError):
    """The database cannot be reached, read or written."""


class ConnectionLostError(DatabaseError):
    """The database's server is out of reach; nothing was written, so the operation may be repeated."""


class SchemaTooNewError(DatabaseError):
    """The database was written by a newer glorasearch."""


class DamagedRowError(DatabaseError):
    """A row of the database cannot be read, because a cell holds what no glorasearch has written."""


class RunLockedError(DatabaseError):
    """Another live process owns this run or study."""


class SearchError(RunError):
    """The search cannot continue."""


class EvaluationError(RunError):
    """One candidate could not be evaluated."""


class OutOfMemoryError(EvaluationError):
    """One candidate could not be evaluated for want of memory: not its fault, and another worker may have enough."""


class ExportError(RunError):
    """A merged model differs from what was searched, or cannot be expressed."""


_NO_MEMORY: Final = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
"""In what torch says, as a RuntimeError: of CUDA, of the CPU's allocator, of CUDA's libraries."""
_MOST_CHARACTERS: Final = 600
"""Of the message of a library, within one of ours."""
_MOST_READ: Final = 20_000
"""Characters of a message in which credentials are looked for; what is shown is less."""


def message_of(error: BaseException) -> str:
    """The message of an exception; nothing if its class, which may be anybody's, fails to say it."""
    try:
        return shortened(str(error), _MOST_READ)
    except Exception:
        return ""


def shortened(text: str, most: int = _MOST_CHARACTERS) -> str:
    """A text without the middle that it has too much."""
    return text if len(text) <= most else f"{text[: most - most // 4]} ... {text[-(most // 4) :]}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the known name that is most like one that is not known; nothing if none is."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def reason(error: BaseException) -> str:
    """What an error of a library says, for a message of ours: in one line, all of it but for the middle of a long one.

    The type's name is before it unless it says a sentence: `KeyError: 'num_classes'`.
    """
    text = " ".join(message_of(error).split()).rstrip(":. ")
    if not text or " " not in text or isinstance(error, (KeyError, AssertionError, IndexError)):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return shortened(redact(text))


def lacks_memory(error: BaseException) -> bool:
    """Whether an exception, of Python, torch or this package, or its cause, says that there is too little memory."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY):
        return True
    return error.__cause__ is not None and lacks_memory(error.__cause__)


def first_line(error: BaseException) -> str:
    """The first line of an error's message; the name of its type if it has none."""
    lines = message_of(error).strip().splitlines()
    return shortened(redact(lines[0])) if lines else type(error).__name__


def first_sentence(error: BaseException) -> str:
    """The first sentence of an error's first line: libraries append allocator details and source locations."""
    return first_line(error).partition(". ")[0]
