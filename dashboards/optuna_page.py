"""Optuna's page with a script of ours before its own: it says why a change was refused, and what a removal removes.

Links in its notes are made readable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_THEIRS: Final = b'<script defer src="/static/bundle.js">'
"""Where its own script is named; in a page without this nothing is put."""
_STYLE: Final = b"<style>a:not([class]) { color: inherit }</style>"
"""Links in notes have the browser's own dark blue, which cannot be read on their dark ground."""
_KEPT: Final = ("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_NONE_MATCH", "HTTP_RANGE")
"""Request headers about a page that a browser has kept: it may be that of a server with other rights."""
_OTHERS: Final = ("content-length", "last-modified", "etag", "accept-ranges")
"""Headers of the page as it was."""


def with_script(application: WSGIApplication, version: str, *, editable: bool) -> WSGIApplication:
    """Optuna's page, GET only, with our script.

    Args:
        application: that has the page.
        version: of our scripts, for browsers to keep them.
        editable: whether the server takes changes.
    """
    script = f'<script defer src="/assets/optuna.js?v={version}"{" data-editable" if editable else ""}></script>'
    own = script.encode() + _STYLE

    def page(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "GET":
            return application(environ, start_response)
        told: list[Any] = []
        for name in _KEPT:
            environ.pop(name, None)
        answer = application(environ, lambda status, headers, *_: told.extend((status, headers)))  # type: ignore
        try:
            body = b"".join(answer).replace(_THEIRS, own + _THEIRS)
        finally:
            getattr(answer, "close", lambda: None)()
        status, headers = told
        kept = [pair for pair in headers if pair[0].lower() not in _OTHERS]
        start_response(status, [*kept, ("Content-Length", str(len(body)))])
        return [body]

    return page
