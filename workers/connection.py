"""This process's connection to a Ray, and whether that Ray is still there."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any, Final

import ray

from glorasearch.errors import RunError
from workers import local_ray
from workers.local_ray import stop

CHECK_SECONDS: Final = 2.0
"""How long to wait for an answer before checking that Ray is still there."""
GRACE_SECONDS: Final = 30.0
"""How long a cluster may be out of reach. Its head may be started again; after 60 s Ray would end this process."""
SILENT_SECONDS: Final = 60.0
"""How long its head may listen and not answer, as one does that is stopped or that a busy machine does not let run."""
_ANSWER_SECONDS: Final = 5.0


class LostRayError(RunError):
    """The Ray that this process was connected to is gone, and with it all that ran on it."""


class Connection:
    """A connection to a Ray. Ray itself does not say that it is gone: what waits for an answer would wait for ever.

    Args:
        owned: it was made here, so that `close` ends it.
        start: starts the Ray of this process again; None for a cluster that others have started.
    """

    def __init__(self, *, owned: bool, start: Callable[[], None] | None = None) -> None:
        self.owned = owned
        self._start = start
        self._gone_since: float | None = None
        self._silent_since: float | None = None
        self._doors = _doors()

    def missing(self) -> list[str]:
        """What of Ray does not listen any more, or does and answers no more, in words."""
        return [what for what, place in self._doors.items() if _is_closed(place)] or self._silent()

    def _silent(self) -> list[str]:
        try:
            alive = local_ray.node_is_alive(_ANSWER_SECONDS)
        except Exception:  # Ray's classes for this differ
            now = time.monotonic()
            self._silent_since = self._silent_since or now
            silent = now - self._silent_since >= SILENT_SECONDS
            return [f"its head process (gcs_server) has not answered for {SILENT_SECONDS:g} s"] if silent else []
        self._silent_since = None
        return [] if alive else ["its node process (raylet) does not answer its head any more"]

    def check(self) -> None:
        """Make sure that Ray is there.

        Raises:
            LostRayError: if nothing listens any more where its head or this machine's node did, its head has given
                this node up, or answers nothing for `SILENT_SECONDS`; of a cluster `GRACE_SECONDS` later.
        """
        gone = self.missing()
        if not gone:
            self._gone_since = None
            return
        now = time.monotonic()
        self._gone_since = self._gone_since or now
        if self._start is None and now - self._gone_since < GRACE_SECONDS:
            return
        whose = "the Ray that was started on this machine" if self._start else "the Ray cluster"
        raise LostRayError(
            f"{whose} has died ({' and '.join(gone)}; out of memory?). Start the same command again: it goes on "
            "where it stopped"
        )

    def restart(self) -> bool:
        """Start a Ray of this process again after it has died; returns False for a cluster, which is others' to start.

        Raises:
            RunError: if it cannot be started.
        """
        if self._start is None:
            return False
        stop()
        try:
            self._start()
        except RunError as error:
            raise RunError(f"{error}, where one had died. Start the same command again: it goes on") from error
        self._gone_since, self._silent_since, self._doors = None, None, _doors()
        return True

    def close(self) -> None:
        """Shut down or leave the Ray, if the connection was made here."""
        if self.owned and ray.is_initialized():
            stop()


def _doors() -> dict[str, tuple[str, int]]:
    """Where the processes listen without which nothing works: the cluster's head, and the node of this process."""
    context = ray.get_runtime_context()
    host, _, port = context.gcs_address.rpartition(":")
    doors = {"its head process (gcs_server) is gone": (host.strip("[]"), int(port))}
    nodes: Callable[[], list[dict[str, Any]]] = ray.nodes
    for node in nodes():
        if node["NodeID"] == context.get_node_id():
            doors["its node process (raylet) is gone"] = (node["NodeManagerAddress"], node["NodeManagerPort"])
    return doors


def _is_closed(place: tuple[str, int]) -> bool:
    """Whether nobody listens at an address; a machine that is too busy to answer counts as one that does."""
    try:
        socket.create_connection(place, timeout=_ANSWER_SECONDS).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False
