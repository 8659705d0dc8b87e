"""Where a cluster accepts jobs: its dashboard's address, tried before Ray is imported, and the token it may require."""

from __future__ import annotations

import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from glorasearch.errors import InputError, RunError
from glorasearch.redact import redact_url

REACH_SECONDS: Final = 10.0
"""How long the head node may take to answer the first request."""


def reach(address: str) -> tuple[str, dict[str, str]]:
    """Check that a Ray dashboard answers; returns its address with the scheme, and the headers that it requires.

    Raises:
        InputError: if the address is not that of a dashboard.
        RunError: if nothing answers there, something else does, or it requires a token that is not found.
    """
    shown = redact_url(address)
    if address == "auto" or address.startswith("ray://"):
        raise InputError(
            f"--address {shown}: jobs go to the dashboard of the head node; give its address, such as http://head:8265"
        )
    if "://" not in address:
        address = f"http://{address}"
    address = address.rstrip("/")
    shown = redact_url(address)
    if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", address):
        raise InputError(f"--address {shown}: expected the address of a Ray dashboard, such as http://head:8265")
    headers: dict[str, str] = {}
    try:
        urllib.request.urlopen(f"{address}/api/version", timeout=REACH_SECONDS).close()
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise RunError(
                f"{shown} answers, but is no Ray dashboard (404 at /api/version); Ray 2.0 or later, installed as "
                "ray[default], has it on port 8265 of the head node"
            ) from error
        if error.code == 401:
            headers["Authorization"] = f"Bearer {_token(address)}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise RunError(
            f"no Ray dashboard can be reached at {shown} ({reason}); it listens on port 8265 of the head node (`ray "
            "start --head --dashboard-host 0.0.0.0`). From elsewhere, a tunnel may be needed: ssh -L "
            "8265:localhost:8265 HEAD, ray dashboard CLUSTER.yaml, or kubectl port-forward"
        ) from error
    return address, headers


def _token(address: str) -> str:
    """The token for a cluster that requires one, read from where Ray looks for it; sent to no other."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()
    try:
        token = os.environ.get("RAY_AUTH_TOKEN") or path.read_text("utf-8")
    except OSError as error:
        raise RunError(
            f"the Ray cluster at {redact_url(address)} requires a token, and there is none in RAY_AUTH_TOKEN or "
            f"{path}; copy it from the head node (`ray get-auth-token` prints it there)"
        ) from error
    return token.strip()


@contextmanager
def explicit_address() -> Iterator[None]:
    """Hide the variables that Ray would prefer to the address given by the user."""
    names = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)
