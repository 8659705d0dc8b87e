"""Who may read the dashboard: requests that name this server, answered with the headers that browsers heed."""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_READING: Final = ("GET", "HEAD")
READ_ONLY: Final = (
    "this dashboard is read-only; one that is started with --allow-changes takes notes of runs, renames and removes "
    "them"
)
_HEADERS: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),  # with none, browsers do not say that a form is of our own pages
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
    ("Cache-Control", "no-cache"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
)
"""Added where the application has not set them itself; its page has a Content-Security-Policy of its own."""


def guarded(application: WSGIApplication, names: Collection[str]) -> WSGIApplication:
    """The application for those who may read it.

    - A request whose `Host` is a name that this server does not go by is answered with 403: a web page of that name
      has had it resolved to this address (DNS rebinding) and would read what only this machine may. Addresses cannot be
      rebound and are all right.
    - A request without `Accept-Encoding` is answered without compression.

    Args:
        application: what is served.
        names: host names of this server, besides `localhost` and all addresses.
    """
    known = {name.lower().rstrip(".") for name in (*names, "localhost")}

    def guard(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        answer = _with_headers(start_response)
        host = environ.get("HTTP_HOST")
        if host is None and environ.get("SERVER_PROTOCOL") != "HTTP/1.0":
            return refuse(answer, "400 Bad Request", "the request has no Host header")
        if host is not None and not _is_ours(host, known):
            reason = f"this server is not called {host!r}; if it is, start it with --allow-host"
            return refuse(answer, "403 Forbidden", reason)
        environ.setdefault("HTTP_ACCEPT_ENCODING", "identity")  # the dashboard takes it for granted
        return application(environ, answer)

    return guard


def read_only(application: WSGIApplication, changing: Callable[[str, str], bool] | None = None) -> WSGIApplication:
    """The application for requests that change nothing: others than GET and HEAD are answered with 405.

    Args:
        application: what is served.
        changing: whether a request of this method and path may change something, after all. It is answered with 403
            unless a browser says that a page of this server sent it.
    """
    reason = READ_ONLY if changing is None else "this dashboard takes notes of runs, renames and removes them; no more"

    def guard(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        if method in _READING:
            return application(environ, start_response)
        if changing is None or not changing(method, environ.get("PATH_INFO", "")):
            allowed = ("Allow", ", ".join(_READING))
            return refuse(start_response, "405 Method Not Allowed", reason, allowed)
        if not _is_of_own_page(environ):
            return refuse(
                start_response,
                "403 Forbidden",
                "changes are taken from pages of this dashboard; programs use `glorasearch runs note`, `rename`, `rm`",
            )
        return application(environ, start_response)

    return guard


def names_of_this_machine() -> set[str]:
    """The host names by which others may call it."""
    return {name for name in (socket.gethostname(), socket.getfqdn()) if name}


def _is_ours(host: str, known: Collection[str]) -> bool:
    """Whether a `Host` header is one of these names, or an address; the port does not count."""
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        return _is_address(name) and (not rest or rest.removeprefix(":").isdecimal())
    name, _, port = host.partition(":")
    if port and not port.isdecimal():
        return False
    return name.lower().rstrip(".") in known or _is_address(name)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_of_own_page(environ: WSGIEnvironment) -> bool:
    """Whether a browser says that a page of this very server sent the request: one that other pages forge cannot."""
    site = environ.get("HTTP_SEC_FETCH_SITE")
    if site is not None:
        return bool(site == "same-origin")
    try:
        place = urlsplit(environ.get("HTTP_ORIGIN", "")).netloc
    except ValueError:
        return False
    return bool(place) and place.lower() == environ.get("HTTP_HOST", "").lower()


def _with_headers(start_response: StartResponse) -> Callable[..., Any]:
    def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
        given = {name.lower() for name, _ in headers}
        return start_response(status, [*headers, *(pair for pair in _HEADERS if pair[0].lower() not in given)], *error)

    return start


def refuse(answer: Callable[..., Any], status: str, reason: str, *headers: tuple[str, str], **more: Any) -> list[bytes]:
    """Answer with a JSON object that has the reason, and what else there is to say."""
    body = json.dumps({"reason": reason} | more).encode()
    answer(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers])
    return [body]
