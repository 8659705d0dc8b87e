"""Log records and warnings of a command, those of libraries included, pass `redact`."""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from typing import Any

from glorasearch.terminal import shown


class _PlainRecord(logging.LogRecord):
    """A record whose message and traceback are as they are printed."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.exc_info and self.exc_info[0] is not None:
            self.exc_text = shown("".join(traceback.format_exception(*self.exc_info)).rstrip())

    def getMessage(self) -> str:  # noqa: N802
        return shown(super().getMessage())


def make_plain() -> None:
    """Have this process log, warn and print plain text; bytes that are no characters do not stop the printing."""
    logging.setLogRecordFactory(_PlainRecord)
    if warnings.formatwarning is not _format_warning:
        warnings.formatwarning = _format_warning
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


_format = warnings.formatwarning


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return shown(_format(message, category, filename, lineno, line))
