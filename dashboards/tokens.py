"""Who has the token may read: by a cookie after signing in once, or by a header with each request."""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import ipaddress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, quote

from glorasearch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

SHORTEST: Final = 16
"""Characters of a token: what can be guessed within years of asking is none."""
LOGIN: Final = "/login"
_LARGEST: Final = 4_096
"""Bytes of a form with a token."""
_STYLE: Final = (
    ":root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:22rem;margin:15vh auto;"
    "padding:0 1rem}label,input,button{display:block;width:100%;box-sizing:border-box;font:inherit}"
    "input,button{padding:.5rem;margin:.5rem 0}"
)
_PAGE: Final = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Sign in - glorasearch</title>'
    '<meta name="viewport" content="width=device-width"><style>{style}</style></head><body><main><h1>glorasearch</h1>'
    '{said}<form method="post" action="/login"><input type="hidden" name="next" value="{next}">'
    '<label for="token">Token</label>'
    '<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>'
    "<button>Sign in</button></form><p>The token is what the dashboard was started with.</p></main></body></html>"
)


def check_token(host: str, token: str | None) -> None:
    """Refuse to serve others without a token, and a token that can be guessed.

    Raises:
        InputError: saying what to do.
    """
    if token is not None and len(token.strip()) < SHORTEST:
        raise InputError(
            f"the dashboard's token has {len(token.strip())} characters; take {SHORTEST} or more, such as what "
            "`python -c 'import secrets; print(secrets.token_urlsafe())'` prints"
        )
    if token is None and not _is_loopback(host):
        raise InputError(
            f"{host or 'every address'} can be reached from other machines, so the dashboard needs a token there: set "
            "GLORASEARCH_DASHBOARD_TOKEN or --token, or listen on 127.0.0.1"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def locked(application: WSGIApplication, token: str) -> WSGIApplication:
    """The application for those who have the token.

    They send `Authorization: Bearer TOKEN`, or sign in at `/login` and have a cookie from then on. The cookie is not
    the token, but follows from it: another token makes it void. A browser without it is led to `/login`, everything
    else is answered with 401.
    """
    expected = token.strip().encode()  # as what is given is: a file's last line ends in a newline
    cookie = hmac.digest(expected, b"glorasearch dashboard", "sha256").hex()

    def lock(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == LOGIN and environ["REQUEST_METHOD"] == "POST":
            return _sign_in(environ, start_response)
        if path == LOGIN and environ["REQUEST_METHOD"] == "GET":
            target = parse_qs(environ.get("QUERY_STRING", "")).get("next", ["/"])[0]
            return _form(start_response, "200 OK", target)
        if _has_cookie(environ, cookie) or _has_header(environ, expected):
            return application(environ, start_response)
        if environ["REQUEST_METHOD"] == "GET" and "text/html" in environ.get("HTTP_ACCEPT", ""):
            query = environ.get("QUERY_STRING", "")
            wanted = path + (f"?{query}" if query else "")
            start_response("303 See Other", [("Location", f"{LOGIN}?next={quote(wanted)}"), ("Content-Length", "0")])
            return []
        return _answer(
            start_response,
            "401 Unauthorized",
            b'{"reason": "this dashboard asks for its token: sign in at /login, or send Authorization: Bearer TOKEN"}',
            ("Content-Type", "application/json"),
            ("WWW-Authenticate", "Bearer"),
        )

    def _sign_in(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        length = environ.get("CONTENT_LENGTH") or "0"
        size = int(length) if length.isdecimal() else 0
        form = parse_qs(environ["wsgi.input"].read(min(size, _LARGEST)).decode("utf-8", "replace"))
        target = form.get("next", ["/"])[0]
        if not hmac.compare_digest(form.get("token", [""])[0].strip().encode(), expected):
            return _form(start_response, "401 Unauthorized", target, "This is not the token.")
        secure = "; Secure" if environ.get("wsgi.url_scheme") == "https" else ""
        start_response(
            "303 See Other",
            [
                ("Location", _own(target)),
                ("Set-Cookie", f"{_cookie_of(environ)}={cookie}; Path=/; HttpOnly; SameSite=Strict{secure}"),
                ("Content-Length", "0"),
            ],
        )
        return []

    return lock


def _cookie_of(environ: WSGIEnvironment) -> str:
    """The cookie's name: browsers keep those of all ports of a host together, and there may be several dashboards."""
    return f"glorasearch-{environ['SERVER_PORT']}"


def _has_cookie(environ: WSGIEnvironment, expected: str) -> bool:
    """Whether a request has the cookie. Others of the same host may look as they like: no parser is to fail at them."""
    pairs = (part.strip().partition("=") for part in environ.get("HTTP_COOKIE", "").split(";"))
    given = [value for name, _, value in pairs if name == _cookie_of(environ)]
    return any(hmac.compare_digest(value.encode(), expected.encode()) for value in given)


def _has_header(environ: WSGIEnvironment, expected: bytes) -> bool:
    scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1"), expected)


def _own(target: str) -> str:
    """A path of this server: an address elsewhere leads to the first page."""
    plain = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return quote(target, safe="/?&=%.~:+,@") if plain else "/"


def _form(start_response: StartResponse, status: str, target: str, said: str = "") -> Iterable[bytes]:
    text = f'<p role="alert">{html.escape(said)}</p>' if said else ""
    page = _PAGE.format(style=_STYLE, said=text, next=html.escape(_own(target), quote=True)).encode()
    allowed = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{allowed}'; form-action 'self'; frame-ancestors 'none'"
    headers = (("Content-Type", "text/html; charset=utf-8"), ("Content-Security-Policy", policy))
    return _answer(start_response, status, page, *headers, ("Cache-Control", "no-store"))


def _answer(start_response: StartResponse, status: str, body: bytes, *headers: Any) -> Iterable[bytes]:
    start_response(status, [*headers, ("Content-Length", str(len(body)))])
    return [body]
