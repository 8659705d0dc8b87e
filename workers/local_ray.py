"""A Ray of this process's own: it listens on the loopback interface only, and asks for a token that nobody else has."""

from __future__ import annotations

import importlib
import os
import secrets
import signal
import sys
from contextlib import suppress
from typing import Any, Final

import ray

OBJECT_STORE_BYTES: Final = 100 * 2**20
"""Size of Ray's object store on this machine: tasks and results take kilobytes, weights do not pass through it."""
_LOOPBACK: Final = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Off, a Ray is for one machine: its servers listen on 127.0.0.1. It is off by default on macOS and Windows alone."""
_VARIABLES: Final = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", _LOOPBACK)

_constants: Any = importlib.import_module("ray._private.ray_constants")
_raylet: Any = importlib.import_module("ray._raylet")
_ALIVE: Final = 0
"""Of a node, in Ray's messages."""
_worker: Any = importlib.import_module("ray._private.worker")
_before: dict[str, str | None] | None = None
"""The environment as it was before the Ray that runs now; None if none does."""


def start(cpus: int, **options: Any) -> None:
    """Start a Ray on this machine, and connect this process to it.

    Whoever reaches a Ray's ports may run code as its owner, so nobody else may: other machines find no open port, and
    other users of this machine lack the token, which is drawn for this Ray, handed to its processes in their
    environment, and written nowhere.

    Args:
        cpus: CPU slots, however many CPUs there are.
        options: of `ray.init`.
    """
    global _before
    restore()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    _before = {name: os.environ.pop(name, None) for name in _VARIABLES}
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), _LOOPBACK: "0"}
    _read_environment()
    try:
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            **options,
        )
    except BaseException:
        restore()
        raise


def stop() -> None:
    """Shut down or leave the Ray that this process is connected to; the environment is as it was before `start`."""
    _wake()
    ray.shutdown()
    restore()


def node_is_alive(seconds: float) -> bool:
    """Whether the head believes that the node of this process is alive.

    Raises:
        Exception: of Ray, if the head does not answer in time.
    """
    nodes = _worker.global_worker.gcs_client.get_all_node_info(timeout=seconds)
    ours = ray.get_runtime_context().get_node_id()
    return any(node.hex() == ours and info.state == _ALIVE for node, info in nodes.items())


def _wake() -> None:
    """Let the processes of a Ray that was started here go on if one was stopped: they are waited for until they end."""
    started = getattr(_worker.global_worker, "node", None)
    for infos in getattr(started, "all_processes", {}).values():
        for info in infos:
            with suppress(ProcessLookupError):
                os.kill(info.process.pid, signal.SIGCONT)


def restore() -> None:
    """Set the environment back to what it was before `start`: another Ray may have another token, or none."""
    global _before
    if _before is None:
        return
    for name, value in _before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    _before = None
    _read_environment()


def _read_environment() -> None:
    """Have Ray read its variables again, which it does once, when it is imported."""
    _constants.ENABLE_RAY_CLUSTER = _constants.env_bool(_LOOPBACK, not sys.platform.startswith(("darwin", "win")))
    _raylet.Config.initialize("")
    _raylet.AuthenticationTokenLoader.instance().reset_cache()
