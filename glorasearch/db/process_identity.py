"""Who a process is: host, process id and start, so that a process id used again is not taken for its old owner."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_PROC = Path("/proc/self/stat").exists()
_DEAD = "ZX"
"""States of a process (in /proc) that has ended and only waits for its parent to ask."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process of one host, from its start to its end."""

    host: str
    pid: int
    started: str
    """When it started, in the words of the operating system; comparable with itself only."""

    @classmethod
    def current(cls) -> Self:
        """This process."""
        pid = os.getpid()
        return cls(platform.node(), pid, _start_of(pid) or "")

    @property
    def is_here(self) -> bool:
        """Whether it is a process that can be seen from here, so that `is_alive` can tell.

        Containers may share the name of their host, and machines a name such as `localhost`: so the boot and the
        namespace of process ids have to be the same, too.
        """
        return self.host == platform.node() and _place_of(self.started) == _place()

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs; of one that cannot be seen from here this says True."""
        return not self.is_here or _start_of(self.pid) == self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _start_of(pid: int) -> str | None:
    """When a process started, and in which place, or None if there is no such process."""
    if _PROC:
        ticks = _ticks_of(pid)
        return None if ticks is None else f"{_place()}:{ticks}"
    listed = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return listed.stdout.strip() or None


def _place() -> str:
    """Where process ids mean what they mean here: this boot, this namespace; empty if the system does not say."""
    if not _PROC:
        return ""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{boot.read_text().strip() if boot.exists() else ''}:{os.readlink('/proc/self/ns/pid')}"


def _place_of(started: str) -> str:
    return started.rpartition(":")[0] if _PROC else ""


def _ticks_of(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold spaces and parentheses itself; the fields count from behind it.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in _DEAD else fields[18]
