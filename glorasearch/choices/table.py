"""The table of choices: by name, their classes; and how they are read."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterable
from typing import Final

from glorasearch.choices.base import SUPPORT_TENSORS, Choice, Options
from glorasearch.choices.constant import Constant
from glorasearch.choices.dash import Dash
from glorasearch.choices.fourier import Fourier
from glorasearch.choices.lora import Lora
from glorasearch.choices.none import Nothing
from glorasearch.choices.sources import source_digest
from glorasearch.choices.tsd import Tsd
from glorasearch.choices.tsd_init import TsdInit
from glorasearch.choices.vector import Vector
from glorasearch.choices.wegeft import Wegeft
from glorasearch.errors import SearchSpaceError

_NUMBER: Final = re.compile("[1-9][0-9]{0,6}")
_KIND: Final = re.compile("[A-Za-z][A-Za-z0-9_-]*")

CHOICES: Final[dict[str, type[Choice]]] = {
    choice.kind: choice for choice in (Nothing, Constant, Vector, Lora, Wegeft, Fourier, Dash, TsdInit, Tsd)
}
"""Every kind of choice by its name. A method from outside comes in by `register`."""


def register(choice: type[Choice]) -> None:
    """Add a method to the table, under its `kind`.

    Raises:
        SearchSpaceError: if another class has that name already, or the class contradicts itself.
    """
    missing = sorted(choice.__abstractmethods__ | ({"kind", "tensors"} - set(dir(choice))))
    if missing:
        raise SearchSpaceError(
            f"{choice.__module__}:{choice.__qualname__} is no choice yet: {', '.join(missing)} missing"
        )
    if not (isinstance(choice.kind, str) and _KIND.fullmatch(choice.kind)):
        raise SearchSpaceError(f"kind {choice.kind!r}: write letters, digits, _ and -, beginning with a letter")
    if not (isinstance(choice.arguments, tuple) and all(isinstance(name, str) for name in choice.arguments)):
        raise SearchSpaceError(
            f"choice {choice.kind!r}: arguments is {choice.arguments!r}; write a tuple of names, such as "
            '("rank",), the comma included'
        )
    if not choice.tensors or set(choice.tensors) - set(SUPPORT_TENSORS):
        raise SearchSpaceError(f"choice {choice.kind!r}: tensors is {choice.tensors!r}; write some of ABCDE")
    if choice.shareable and choice.watches:
        raise SearchSpaceError(
            f"choice {choice.kind!r} is shareable and watches: steps are counted for each layer, so layers cannot "
            "share what they change"
        )
    known = CHOICES.setdefault(choice.kind, choice)
    if (known.__module__, known.__qualname__) != (choice.__module__, choice.__qualname__):
        raise SearchSpaceError(f"there is a choice {choice.kind!r} already ({known.__module__}); give it another kind")


def register_named(path: str) -> type[Choice]:
    """Import and `register` a class that is named as `package.module:Class`; returns what the table has then.

    Raises:
        SearchSpaceError: if it cannot be imported, whatever its module raises, or is no choice.
    """
    module, colon, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name) if colon else None
    except (ImportError, AttributeError, ValueError) as error:
        raise SearchSpaceError(
            f"method {path!r} cannot be imported: {error}; write package.module:Class, of a module that is installed "
            "or lies in a folder of PYTHONPATH"
        ) from error
    except Exception as error:
        raise SearchSpaceError(
            f"method {path!r} cannot be imported: module {module} raises {type(error).__name__}: {error}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Choice)):
        raise SearchSpaceError(f"method {path!r} is not a subclass of glorasearch.choices.Choice")
    register(found)
    source_digest(found)
    return CHOICES[found.kind]


def method_sources(paths: Iterable[str]) -> dict[str, str | None]:
    """Named as for `register_named` → digest of the code, None where there is no file to tell."""
    return {path: source_digest(register_named(path)) for path in paths}


@functools.lru_cache(maxsize=1024)
def parse_choice(text: str) -> Choice:
    """Read a choice such as `vector`, `lora:4` or `dash:4:8`.

    Raises:
        SearchSpaceError: if the kind is unknown, or its arguments are not what it needs.
    """
    kind, *given = text.split(":")
    choice = CHOICES.get(kind)
    if choice is None:
        raise SearchSpaceError(f"unknown choice {text!r}; known are {', '.join(describe_choices())}")
    if not choice.arguments and given:
        raise SearchSpaceError(f"choice {text!r}: {kind!r} takes no argument; write {kind!r}")
    if len(given) != len(choice.arguments) or not all(_NUMBER.fullmatch(value) for value in given):
        needs = "its " + " and ".join(choice.arguments)
        example = ":".join([kind, *(["4", "8"] * len(choice.arguments))[: len(choice.arguments)]])
        numbers = "a positive integer" if len(choice.arguments) == 1 else "positive integers"
        raise SearchSpaceError(f"choice {text!r}: {kind!r} needs {needs}, {numbers}; write {example!r}")
    return choice(tuple(map(int, given)))


def describe_choices(tensor: str | None = None) -> list[str]:
    """The choices that a support tensor allows, as they are written (all of them without a tensor)."""
    return [
        ":".join([kind, *(f"<{name}>" for name in choice.arguments)])
        for kind, choice in CHOICES.items()
        if tensor is None or tensor in choice.tensors
    ]


def check_allowed(tensor: str, choice: Choice) -> None:
    """Raise `SearchSpaceError` if the support tensor does not have that choice."""
    if tensor not in choice.tensors:
        allowed = ", ".join(describe_choices(tensor))
        raise SearchSpaceError(f"support tensor {tensor} has no choice {str(choice)!r}; allowed are {allowed}")


def options_of(kind: str, given: Options) -> Options:
    """The options of a method: the defaults, changed as a search space says.

    Raises:
        SearchSpaceError: if the method has no such option, or it makes no sense with such a value.
    """
    choice = CHOICES.get(kind)
    if choice is None:
        raise SearchSpaceError(f"options.{kind}: there is no such choice; known are {', '.join(CHOICES)}")
    unknown = given.keys() - choice.defaults.keys()
    if unknown:
        has = ", ".join(choice.defaults) or "no options"
        raise SearchSpaceError(f"options.{kind}: unknown {', '.join(sorted(unknown))}; {kind} has {has}")
    options = {**choice.defaults, **given}
    choice.check_options(options)
    return options
