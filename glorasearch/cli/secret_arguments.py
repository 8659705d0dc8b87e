"""Credentials on the command line, where every user of the machine reads them, moved to the environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from glorasearch.redact import has_secret

VARIABLES: Final[Mapping[str, str]] = {"--database": "GLORASEARCH_DATABASE", "--store": "GLORASEARCH_STORE"}
"""The options whose URLs may hold credentials, and the variables that stand for them."""


def without_secrets(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The arguments without URLs that hold credentials, and the variables that say the same."""
    kept: list[str] = []
    moved: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            return [*kept, argument, *rest], moved
        option, equals, value = argument.partition("=")
        variable = VARIABLES.get(option)
        if variable is None or not (equals or rest):
            kept.append(argument)
            continue
        if not equals:
            value = rest.pop(0)
        moved.pop(variable, None)  # the last one counts
        if has_secret(value):
            moved[variable] = value
        else:
            kept += [f"{option}={value}"]
    return kept, moved


def hide_secrets() -> None:
    """Start this process over with the credentials of its arguments in its environment, which only its user can read.

    It keeps its number. Nothing happens where its arguments hold none, or are not those of the interpreter.
    """
    arguments = sys.argv[1:]
    kept, moved = without_secrets(arguments)
    original = sys.orig_argv
    if not moved or not arguments or original[-len(arguments) :] != arguments or not sys.executable:
        return
    os.execve(sys.executable, [*original[: -len(arguments)], *kept], os.environ | moved)
