"""SIGTERM as an interruption: who stops a job by it (Ray Jobs, Slurm, Kubernetes) finds it ended cleanly."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM has arrived: a run stops as it does on Ctrl+C, and can go on."""


def interrupt_on_sigterm() -> None:
    """Raise `Terminated` in the main thread on SIGTERM, once: while the job ends, further ones change nothing.

    In another thread than the main one, where Python takes no handlers, this does nothing.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # several hands may stop a job at once: clean-up runs to its end
    raise Terminated
