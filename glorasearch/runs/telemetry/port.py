"""The port of the Prometheus endpoint, before it is there."""

from __future__ import annotations

import socket

from glorasearch.errors import InputError


def check_port(host: str, port: int) -> None:
    """Refuse a port that cannot be had.

    Raises:
        InputError: saying why.
    """
    try:
        family = socket.getaddrinfo(host, port)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((host, port))
    except OSError as error:
        raise refused(host, port, error) from error


def refused(host: str, port: int, error: OSError) -> InputError:
    """The error to raise where nothing can listen."""
    return InputError(
        f"log.prometheus is {port}, and nothing can listen there on {host}: {error.strerror or error}; take another "
        "port, or 0 for a free one"
    )
