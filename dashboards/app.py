"""Optuna's dashboard over the summarising view of a database, and a server for it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.simple_server import make_server as make_wsgi_server

from glorasearch.db import SummarisingStorage
from glorasearch.errors import InputError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_logger = logging.getLogger(__name__)

_READING = ("GET", "HEAD")
_REFUSAL = json.dumps({"reason": "this dashboard is read-only"}).encode()


class _Server(ThreadingMixIn, WSGIServer):
    """A thread a request: a browser asks for the page and the study at once."""

    daemon_threads = True


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Requests go to the log, not to the terminal."""
        _logger.debug(format, *args)


def make_app(database_url: str) -> WSGIApplication:
    """The dashboard as a WSGI application, to be mounted at the root of a server.

    It only reads: other requests than GET and HEAD are answered with 405.

    Raises:
        DatabaseError: if there is no glorasearch database at the URL.
    """
    from optuna_dashboard import wsgi

    dashboard: WSGIApplication = wsgi(SummarisingStorage(database_url))

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in _READING:
            return dashboard(environ, start_response)
        headers = [("Content-Type", "application/json"), ("Allow", ", ".join(_READING))]
        start_response("405 Method Not Allowed", headers)
        return [_REFUSAL]

    return application


def make_server(database_url: str, host: str = "127.0.0.1", port: int = 8080) -> WSGIServer:
    """A server of the dashboard that listens, but serves only when `serve_forever` is called on it.

    Port 0 takes a free one; `server_port` says which.

    Raises:
        InputError: if the address cannot be listened on.
        DatabaseError: if there is no glorasearch database at the URL.
    """
    application = make_app(database_url)
    try:
        return make_wsgi_server(host, port, application, server_class=_Server, handler_class=_Handler)
    except OSError as error:
        raise InputError(
            f"the dashboard cannot listen on {host}:{port}: {error.strerror}; choose another port"
        ) from error


def serve(database_url: str, host: str = "127.0.0.1", port: int = 8080) -> None:
    """Serve the dashboard until Ctrl+C. It has no password: keep it on the loopback address.

    Raises:
        InputError, DatabaseError: as `make_server`.
    """
    with make_server(database_url, host, port) as server, suppress(KeyboardInterrupt):
        server.serve_forever()
