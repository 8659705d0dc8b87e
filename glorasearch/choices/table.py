"""The table of choice classes by name, and how a choice is parsed."""

from __future__ import annotations

import functools
import re
from typing import Final

from glorasearch.choices.base import SUPPORT_TENSORS, Choice, Options, Site
from glorasearch.choices.dash import Dash
from glorasearch.choices.fourier import Fourier, FourierQv
from glorasearch.choices.glora import Constant, Lora, Nothing, Vector
from glorasearch.choices.lora_qkv import LoraQkv
from glorasearch.choices.repadapter import RepAdapter
from glorasearch.choices.ssf import Gain
from glorasearch.choices.tsd import Tsd, TsdInit
from glorasearch.choices.wegeft import Wegeft
from glorasearch.errors import SearchSpaceError

_NUMBER: Final = re.compile("[1-9][0-9]{0,6}")
_NAME: Final = re.compile("[A-Za-z][A-Za-z0-9_-]*")

CHOICES: Final[dict[str, type[Choice]]] = {
    choice.name: choice
    for choice in (
        *(Nothing, Constant, Vector, Lora, Wegeft, Fourier, Dash, TsdInit, Tsd),
        *(Gain, RepAdapter, LoraQkv, FourierQv),
    )
}
"""Every choice class by its name; `register` adds others."""


def register(choice: type[Choice]) -> None:
    """Add a choice class to the table, under its `name`.

    Raises:
        SearchSpaceError: if another class has that name already, or the class contradicts itself.
    """
    missing = sorted(choice.__abstractmethods__ | ({"name", "tensors"} - set(dir(choice))))
    if missing:
        raise SearchSpaceError(
            f"{choice.__module__}:{choice.__qualname__} is not a complete choice: {', '.join(missing)} missing"
        )
    if not (isinstance(choice.name, str) and _NAME.fullmatch(choice.name)):
        raise SearchSpaceError(f"name {choice.name!r}: write letters, digits, _ and -, beginning with a letter")
    if not (isinstance(choice.arguments, tuple) and all(isinstance(name, str) for name in choice.arguments)):
        raise SearchSpaceError(
            f"choice {choice.name!r}: arguments is {choice.arguments!r}; write a tuple of names, such as "
            '("rank",), the comma included'
        )
    if not choice.tensors or set(choice.tensors) - set(SUPPORT_TENSORS):
        raise SearchSpaceError(f"choice {choice.name!r}: tensors is {choice.tensors!r}; write some of ABCDE")
    if choice.shareable and choice.watches:
        raise SearchSpaceError(
            f"choice {choice.name!r} is shareable and watches: steps are counted for each layer, so layers cannot "
            "share what they change"
        )
    known = CHOICES.setdefault(choice.name, choice)
    if (known.__module__, known.__qualname__) != (choice.__module__, choice.__qualname__):
        raise SearchSpaceError(f"there is a choice {choice.name!r} already ({known.__module__}); give it another name")


@functools.lru_cache(maxsize=1024)
def parse_choice(text: str) -> Choice:
    """Read a choice such as `vector`, `lora:4` or `dash:4:8`.

    Raises:
        SearchSpaceError: if its class is unknown, or the arguments are not those that the class takes.
    """
    name, *given = text.split(":")
    choice = CHOICES.get(name)
    if choice is None:
        raise SearchSpaceError(f"unknown choice {text!r}; known are {', '.join(describe_choices())}")
    if not choice.arguments and given:
        raise SearchSpaceError(f"choice {text!r}: {name!r} takes no argument; write {name!r}")
    if len(given) != len(choice.arguments) or not all(_NUMBER.fullmatch(value) for value in given):
        needs = "its " + " and ".join(choice.arguments)
        example = ":".join([name, *(["4", "8"] * len(choice.arguments))[: len(choice.arguments)]])
        numbers = "a positive integer" if len(choice.arguments) == 1 else "positive integers"
        raise SearchSpaceError(f"choice {text!r}: {name!r} needs {needs}, {numbers}; write {example!r}")
    return choice(tuple(map(int, given)))


def describe_choices(tensor: str | None = None) -> list[str]:
    """How the choices that a support tensor allows are written (all choices if no tensor is given)."""
    return [
        ":".join([name, *(f"<{argument}>" for argument in choice.arguments)])
        for name, choice in CHOICES.items()
        if tensor is None or tensor in choice.tensors
    ]


def check_fits(choice: Choice, site: Site) -> None:
    """Raise `SearchSpaceError` if a layer is too small for a choice, or is a norm and does not have it."""
    layer, tensor = site.layer, site.tensor
    if layer.kind == "norm" and tensor not in choice.norms:
        own = [
            f"{each} may be {', '.join(name for name, one in CHOICES.items() if each in one.norms)}"
            for each in SUPPORT_TENSORS
        ]
        raise SearchSpaceError(
            f"choices.{tensor}: {str(choice)!r} is not for norms such as {layer.name}; on a norm "
            f"{'; '.join(own)}. Give norms lists of their own by a group, or leave them out by layers.types"
        )
    choice.check(site)


def check_allowed(tensor: str, choice: Choice) -> None:
    """Raise `SearchSpaceError` if the support tensor does not have that choice."""
    if tensor not in choice.tensors:
        allowed = ", ".join(describe_choices(tensor))
        raise SearchSpaceError(f"support tensor {tensor} has no choice {str(choice)!r}; allowed are {allowed}")


def options_of(name: str, given: Options) -> Options:
    """The options of a choice class: its defaults, overridden by those of a search space.

    Raises:
        SearchSpaceError: if it has no such option, or the value makes no sense.
    """
    choice = CHOICES.get(name)
    if choice is None:
        raise SearchSpaceError(f"options.{name}: there is no such choice; known are {', '.join(CHOICES)}")
    unknown = given.keys() - choice.defaults.keys()
    if unknown:
        has = ", ".join(choice.defaults) or "no options"
        raise SearchSpaceError(f"options.{name}: unknown {', '.join(sorted(unknown))}; {name} has {has}")
    options = {**choice.defaults, **given}
    choice.check_options(options)
    return options
