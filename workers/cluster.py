"""Joining a Ray cluster, or starting a private one on this machine."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import ray

from glorasearch.errors import InputError, RunError, reason
from glorasearch.redact import conceal, redact_url
from workers import local_ray
from workers.connection import Connection

logger = logging.getLogger(__name__)

JOIN_SECONDS: Final = 10.0
"""How long a cluster may take to answer; Ray itself would try for minutes, silently."""


def connect(workers: int, gpus_per_worker: float, address: str | None) -> Connection:
    """Make Ray ready for that many workers; the connection is to be closed.

    With an `address`, that cluster is joined; its workers also search this process's import path for modules, as far as
    those folders exist there, after a Ray job's working directory. If this process is already connected to a Ray, that
    one is used; else one is started on this machine, for this process alone, with a CPU slot for each worker.

    Raises:
        InputError: if this machine has fewer GPUs than the workers need.
        RunError: if Ray cannot be started or reached.
    """
    if ray.is_initialized():
        check_room(workers, gpus_per_worker, grows=True)
        return Connection(owned=False)
    if address is not None:
        conceal(address)
        check_address(address)
    start = partial(_initialise, workers, address)
    start()
    try:
        check_room(workers, gpus_per_worker, grows=address is not None)
        return Connection(owned=True, start=None if address else start)
    except BaseException:
        local_ray.stop()
        raise


def _initialise(workers: int, address: str | None) -> None:
    """Join the cluster at an address, or start a Ray on this machine.

    Raises:
        RunError: if that cannot be done.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):  # a Ray job itself says what its workers import
        path = import_path() if address is None else f"{import_path()}{os.pathsep}${{PYTHONPATH}}"
        quiet["runtime_env"] = {"env_vars": {"PYTHONPATH": path}}
    try:
        with _keep_sigterm_handler():
            if address is None:
                local_ray.start(workers, **quiet)
            else:
                local_ray.restore()
                ray.init(address=address, **quiet)
    except Exception as error:
        where = f"join the Ray cluster at {redact_url(address)!r}" if address else "start Ray on this machine"
        raise RunError(f"cannot {where}: {reason(error)}") from error


def check_address(address: str) -> None:
    """Check that something listens at a cluster's address.

    Raises:
        RunError: if nothing answers within `JOIN_SECONDS`.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdigit():  # such as auto, which Ray resolves
        return
    deadline = time.monotonic() + JOIN_SECONDS
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=JOIN_SECONDS).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise RunError(
                    f"no Ray cluster answers at {redact_url(address)} ({error}): --address takes the port of the head "
                    "node, 6379 unless it was started with another one"
                ) from error
        time.sleep(0.5)


def free_room() -> str:
    """The cluster's free resources, for messages."""
    free = _free()
    return f"the Ray cluster has {free.get('CPU', 0.0):g} CPUs and {free.get('GPU', 0.0):g} GPUs free"


def check_room(workers: int, gpus_per_worker: float, grows: bool) -> None:
    """Check that the workers fit in; for a cluster that `grows`, or that others may leave, too little is a warning.

    Raises:
        InputError: if they do not fit, and Ray does not grow.
    """
    free = _free()
    for resource, needed in (("CPU", float(workers)), ("GPU", gpus_per_worker * workers)):
        found = free.get(resource, 0.0)
        if found >= needed:
            continue
        if not grows:
            raise InputError(
                f"{needed:g} {resource}s are needed, this machine has {found:g}: use fewer workers or tasks at a time, "
                "or a smaller share for each"
            )
        logger.warning(
            "%g %ss are needed, the Ray cluster has %g free: work starts as resources become free",
            needed,
            resource,
            found,
        )


def _free() -> dict[str, float]:
    available: Callable[[], dict[str, float]] = ray.available_resources
    return available()


def import_path() -> str:
    """This process's import path without its Python installation, as a PYTHONPATH for workers."""
    installation = {Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}
    paths: list[str] = []
    for entry in [*sys.path, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]:
        path = Path(entry or ".").resolve()
        inside = any(path.is_relative_to(root) for root in installation)
        if path.exists() and not inside and str(path) not in paths:
            paths.append(str(path))
    return os.pathsep.join(paths)


@contextmanager
def _keep_sigterm_handler() -> Iterator[None]:
    """Restore this process's own handler of SIGTERM, if it has one: `ray.init` replaces it by one that just exits."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
