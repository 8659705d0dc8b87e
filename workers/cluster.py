"""Joining a Ray cluster, or starting a quiet one of this process's own on this machine."""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import ray

from glorasearch.errors import InputError, RunError
from workers.signals import kept_sigterm

logger = logging.getLogger(__name__)

OBJECT_STORE_BYTES: Final = 100 * 2**20
"""Memory for Ray's object store on this machine: tasks and results are a few kilobytes, weights do not pass by it."""
JOIN_SECONDS: Final = 10.0
"""How long a cluster may take to answer; Ray itself would try for minutes, and say nothing."""


def connect(workers: int, gpus_per_worker: float, address: str | None) -> bool:
    """Make Ray ready for that many workers; whether it was started here, and so is to be shut down here.

    With an `address` the cluster there is joined, and left as it is but for this process's own job: its workers look
    for modules in the folders of this process's import path too, where they exist, after those of a Ray job's working
    directory. A Ray that this process already uses is used as it is; else one is started on this machine, with a CPU
    slot for each worker.

    Raises:
        InputError: if this machine has fewer GPUs than the workers need.
        RunError: if Ray cannot be started or reached.
    """
    if ray.is_initialized():
        check_room(workers, gpus_per_worker, grows=True)
        return False
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        quiet |= {
            "num_cpus": workers,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
    else:
        check_address(address)
    if not os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):  # in a Ray job, the job says what its workers import
        path = import_path() if address is None else f"{import_path()}{os.pathsep}${{PYTHONPATH}}"
        quiet["runtime_env"] = {"env_vars": {"PYTHONPATH": path}}
    try:
        with kept_sigterm():
            ray.init(address=address or "local", **quiet)
    except Exception as error:
        where = f"join the Ray cluster at {address!r}" if address else "start Ray on this machine"
        raise RunError(f"cannot {where}: {error}") from error
    try:
        check_room(workers, gpus_per_worker, grows=address is not None)
    except InputError:
        ray.shutdown()
        raise
    return True


def check_address(address: str) -> None:
    """Find out whether something answers where a cluster is said to be.

    Raises:
        RunError: if nothing does within `JOIN_SECONDS`.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdigit():  # such as auto, for Ray itself to read
        return
    deadline = time.monotonic() + JOIN_SECONDS
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=JOIN_SECONDS).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise RunError(
                    f"no Ray cluster answers at {address} ({error}): --address wants the port of its head node, "
                    "6379 unless it was started with another one"
                ) from error
        time.sleep(0.5)


def free_room() -> str:
    """What the cluster has free, in words."""
    free = _free()
    return f"the Ray cluster has {free.get('CPU', 0.0):g} CPUs and {free.get('GPU', 0.0):g} GPUs free"


def check_room(workers: int, gpus_per_worker: float, grows: bool) -> None:
    """See that the workers find a place; a cluster may still grow, or others leave it, so there it is a warning.

    Raises:
        InputError: if they find none, and Ray does not grow.
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
            "%g %ss are needed, the Ray cluster has %g free: work starts when it has room",
            needed,
            resource,
            found,
        )


def _free() -> dict[str, float]:
    available: Callable[[], dict[str, float]] = ray.available_resources
    return available()


def import_path() -> str:
    """What this process can import beyond its Python installation, as a PYTHONPATH for workers on this machine."""
    installation = {Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}
    paths: list[str] = []
    for entry in [*sys.path, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]:
        path = Path(entry or ".").resolve()
        inside = any(path.is_relative_to(root) for root in installation)
        if path.exists() and not inside and str(path) not in paths:
            paths.append(str(path))
    return os.pathsep.join(paths)
