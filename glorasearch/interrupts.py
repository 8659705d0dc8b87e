"""Who stops this process: a person or a scheduler, by a signal, or code that raises what only they should.

`KeyboardInterrupt` and `SystemExit` are exceptions like others, so a plugin can raise them. A plugin that does so has
failed, while Ctrl+C stops a run; the two are told apart by handlers that raise classes of their own.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import NoReturn

_signalled: type[KeyboardInterrupt] | None = None
"""What the last signal raised: code from C, such as Ray's, may put a `KeyboardInterrupt` of its own in its place."""


class Interrupted(KeyboardInterrupt):
    """SIGINT: Ctrl+C."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, by which Ray Jobs, Slurm and Kubernetes stop a process; a run stops as on Ctrl+C."""


def interrupt_on_signals() -> None:
    """Raise `Interrupted` in the main thread on SIGINT and `Terminated` on the first SIGTERM; later ones are ignored.

    In another thread, where Python takes no signal handlers, this does nothing; a SIGINT that the process was started
    to ignore stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def is_interrupt(error: BaseException) -> bool:
    """Whether an exception stops this process at somebody's wish, and is not the failure of code that raised it.

    Where another handler of SIGINT is installed, every `KeyboardInterrupt` counts as one. A `SystemExit` never does,
    but for the one by which Ray ends a worker.
    """
    if isinstance(error, KeyboardInterrupt):
        ours = signal.getsignal(signal.SIGINT) is _interrupt
        return not ours or _signalled is not None or isinstance(error, (Interrupted, Terminated))
    return bool(getattr(error, "is_ray_terminate", False))


def was_terminated(error: BaseException) -> bool:
    """Whether an exception stops this process because of SIGTERM."""
    return isinstance(error, Terminated) or (isinstance(error, KeyboardInterrupt) and _signalled is Terminated)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    _note(Interrupted)
    raise Interrupted


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the clean-up of the first one is not interrupted
    _note(Terminated)
    raise Terminated


def _note(kind: type[KeyboardInterrupt]) -> None:
    global _signalled
    _signalled = kind
