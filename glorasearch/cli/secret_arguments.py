"""Credentials on the command line, where every user of the machine reads them, moved to the environment."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Final

from glorasearch.redact import redact, redact_url

VARIABLE: Final = "GLORASEARCH_ARGUMENTS"
"""Holds the arguments of a process that has started itself over, until it reads them."""
_URLS: Final = ("--address", "--database", "--store")
"""Options whose values are URLs, or were meant to be."""
_SECRETS: Final = ("--token",)
"""Options whose values nobody else may read."""


def without_secrets(arguments: Sequence[str]) -> list[str]:
    """The arguments as others may read them: credentials are `***`, wherever they stand."""
    shown: list[str] = []
    for place, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option in _SECRETS and equals:
            shown.append(f"{option}=***")
        elif place and arguments[place - 1] in _SECRETS:
            shown.append("***")
        elif option in _URLS and equals:
            shown.append(f"{option}={redact_url(value)}")
        elif place and arguments[place - 1] in _URLS:
            shown.append(redact_url(argument))
        else:
            shown.append(redact(argument))
    return shown


def hide_secrets() -> list[str] | None:
    """Start this process over with the credentials of its arguments in its environment, which only its user can read.

    It keeps its number. Nothing happens where its arguments hold none, or are not those of the interpreter.

    Returns:
        The arguments, if this process has been started over; None if they are as they stand.
    """
    number, _, given = os.environ.pop(VARIABLE, "").partition(" ")
    if number == str(os.getpid()):
        return [str(argument) for argument in json.loads(given)]
    arguments, original = sys.argv[1:], sys.orig_argv
    shown = without_secrets(arguments)
    if shown != arguments and original[-len(arguments) :] == arguments and sys.executable:
        moved = {VARIABLE: f"{os.getpid()} {json.dumps(arguments)}"}
        with contextlib.suppress(OSError):  # of arguments that are too long for a variable
            os.execve(sys.executable, [*original[: -len(arguments)], *shown], os.environ | moved)
    return None
