"""Processes of tests: helper scripts of this package, ports for them, waiting for what they do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

DEADLINE_SECONDS = 240
"""Far more than anything here takes, also on a busy machine."""
TESTS = Path(__file__).parents[1]


def command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of this package as a script."""
    return [sys.executable, "-m", f"support.{module}", *arguments]


def environment(**more: str) -> dict[str, str]:
    """The environment of such a process: it finds this package, and computes in one thread."""
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path} | more


def run_script(module: str, *arguments: str) -> str:
    """Run a module of this package as a script, which must succeed; returns what it printed."""
    done = subprocess.run(
        command(module, *arguments),
        capture_output=True, text=True, env=environment(), check=False, timeout=DEADLINE_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_until(condition: Callable[[], bool], what: str = "something") -> None:
    """Check a condition again and again until it holds."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.005)


def is_alive(process: int) -> bool:
    """Whether a process runs; one that has ended but was not waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nothing listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
