"""Who a process is: host, process id and start, so that a process id used again is not taken for its old owner."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

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
        """Whether it is a process of this host, so that `is_alive` can tell."""
        return self.host == platform.node()

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs; of another host's process this says True, because it cannot be known."""
        return not self.is_here or _start_of(self.pid) == self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _start_of(pid: int) -> str | None:
    """When a process started, or None if there is no such process."""
    if Path("/proc/self/stat").exists():
        return _start_from_proc(pid)
    listed = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return listed.stdout.strip() or None


def _start_from_proc(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold spaces and parentheses itself; the fields count from behind it.
    state, *fields = stat.rpartition(")")[2].split()
    if state in _DEAD:
        return None
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{boot.read_text().strip() if boot.exists() else ''}:{fields[18]}"
