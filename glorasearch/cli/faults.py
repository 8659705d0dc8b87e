"""The one place where errors become words: what the command line says of an exception, and its exit code."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NoReturn

import click

from glorasearch.choices.plugins import describe, fault_of
from glorasearch.errors import GlorasearchError, InputError, lacks_memory, reason, shortened
from glorasearch.redact import redact
from glorasearch.terminal import is_text, say

_REMEDIES: Final[Mapping[int, str]] = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some of your quota there",
    errno.EACCES: "give this user the right to it, or choose another place",
    errno.EPERM: "give this user the right to it, or choose another place",
    errno.EROFS: "choose a place that can be written",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the limit of open files of this machine",
    errno.EIO: "the disk or its connection has a fault",
}
_INPUT: Final = (errno.ENAMETOOLONG, errno.ELOOP)
"""Errors of files that the given names have, whatever the disk is like."""
_MOST_OF_A_TRACEBACK: Final = 50_000
_NOTHING: Final = "nothing is finished but what was said to be"
_AGAIN: Final = "What was finished is kept: the same command resumes"


def check_arguments(arguments: Iterable[str]) -> None:
    """Refuse arguments that are not UTF-8: databases, TOML and JSON, which keep names, cannot hold them.

    Raises:
        InputError: naming the argument.
    """
    for argument in arguments:
        if not is_text(argument):
            raise InputError(f"argument '{argument}' has bytes that are not UTF-8, which names must be; rename it")


@contextmanager
def exits_are_said() -> Iterator[None]:
    """Have `os._exit`, which no handler sees, say who ends this process by it, and never with code 0."""
    leave, ours = os._exit, os.getpid()

    def leave_with_words(status: int) -> NoReturn:
        if os.getpid() == ours:  # a fork ends like this by right
            caller = sys._getframe(1)
            place = f"{caller.f_code.co_filename}, line {caller.f_lineno}, in {caller.f_code.co_name}"
            say(f"error: os._exit({status}) ends the process ({place}); {_NOTHING}. {_AGAIN}.", err=True)
            sys.stderr.flush()
            status = status or 1
        leave(status)

    vars(os)["_exit"] = leave_with_words
    try:
        yield
    finally:
        vars(os)["_exit"] = leave


def report(error: BaseException) -> int:
    """Print what an exception means to standard error, as `error: ...`; returns the exit code."""
    if isinstance(error, click.ClickException) and fault_of(error) is None:
        return _report_usage(error)
    if isinstance(error, GlorasearchError):
        say(f"error: {error}", err=True)
        return error.exit_code
    if isinstance(error, OSError) and error.errno in _INPUT:
        say(f"error: {_words(error)}", err=True)
        return InputError.exit_code
    say(f"error: {_words(error)}. {_AGAIN}.{_traceback(error)}", err=True)
    return 1


def _report_usage(error: click.ClickException) -> int:
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None:
        say(context.get_usage(), err=True)
        say(f"Try '{context.command_path} --help' for help.\n", err=True)
    say(f"error: {error.format_message()}", err=True)
    return error.exit_code


def _words(error: BaseException) -> str:
    fault = fault_of(error)
    if fault is not None:
        return f"{fault}; {_NOTHING}"
    if isinstance(error, OSError) and error.strerror:
        place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
        remedy = _REMEDIES.get(error.errno or 0)
        return f"{place}{error.strerror}{f'; {remedy}' if remedy else ''}"
    if lacks_memory(error):
        return f"not enough memory ({reason(error)}); make train.batch_size, the space or data.size smaller"
    if isinstance(error, RecursionError):
        return f"something is nested too deeply ({reason(error)})"
    if not isinstance(error, Exception):
        place = "outside"
        for frame, line in traceback.walk_tb(error.__traceback__):
            place = f"by {frame.f_code.co_filename}, line {line}"
        return f"{describe(error)}, is raised {place}; {_NOTHING}"
    return f"glorasearch failed where it should not: {type(error).__name__}: {reason(error)}"


def _traceback(error: BaseException) -> str:
    """Write the traceback to a file for whoever looks for the fault; returns a sentence that says where."""
    try:
        file, path = tempfile.mkstemp(prefix="glorasearch-traceback-", suffix=".txt")
        with os.fdopen(file, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(redact(shortened("".join(traceback.format_exception(error)), _MOST_OF_A_TRACEBACK)))
    except OSError:
        return ""
    return f" The traceback is in {path}"
