"""Who a process is: host, process id and start, so that a process id used again is not taken for its old owner."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import psutil

_SAME_START_SECONDS: Final = 2.0
"""Starts that differ by less are the same: the clock may be set, and process ids are not reused that quickly."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process of one host, from its start to its end."""

    host: str
    pid: int
    started: str
    """Where and when it started: boot, namespace of process ids, and seconds since the boot."""

    @classmethod
    def current(cls) -> Self:
        """This process."""
        pid = os.getpid()
        return cls(platform.node(), pid, f"{_place()}:{_start_of(pid):.2f}")

    @property
    def is_here(self) -> bool:
        """Whether it is a process that can be seen from here, so that `is_alive` can tell.

        Containers may share the name of their host, and machines a name such as `localhost`, so the boot and the
        namespace of process ids have to be the same, too.
        """
        return self.host == platform.node() and self.started.rpartition(":")[0] == _place()

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs; True for one that cannot be seen from here."""
        if not self.is_here:
            return True
        try:
            start = _start_of(self.pid)
        except psutil.AccessDenied:  # it is there, and hidden from this user
            return True
        return start is not None and abs(start - float(self.started.rpartition(":")[2])) < _SAME_START_SECONDS

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _start_of(pid: int) -> float | None:
    """When a process started, seconds since the boot; None if there is no such process, or it has ended (a zombie).

    Raises:
        psutil.AccessDenied: if the process belongs to another user, on systems that hide when it started.
    """
    try:
        process = psutil.Process(pid)
        started = process.create_time() - psutil.boot_time()
        return None if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD) else started
    except psutil.NoSuchProcess:
        return None


def _place() -> str:
    """Boot and namespace in which this host's process ids are valid; empty if the system does not say."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if not (boot.exists() and namespace.is_symlink()):
        return ""
    return f"{boot.read_text().strip()}:{os.readlink(namespace)}"
