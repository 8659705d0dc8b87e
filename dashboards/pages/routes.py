"""Which path leads to which page, and what every answer has in common: entity tags, policy, an error page."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import bottle

from dashboards.pages import compare_page, run_page, runs_page, trial_page
from dashboards.pages.figures_page import Figures
from dashboards.pages.files import FILES, read_file
from dashboards.pages.forms import ACTIONS, READ_ONLY, Forms
from dashboards.pages.reading import Reader
from dashboards.pages.render import ASSETS, POLICY, asset, render
from glorasearch.errors import GlorasearchError, RunNotFoundError, did_you_mean
from glorasearch.figures import library

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import WSGIApplication

    from glorasearch.db import RunRecord

LIBRARY: Final = "vega.js"
_HTML: Final = "text/html; charset=utf-8"
_log = logging.getLogger(__name__)


def make_pages(reader: Reader, figures: Figures, forms: Forms | None = None) -> WSGIApplication:
    """The pages as a WSGI application; with forms runs can be changed by them."""
    app = bottle.Bottle()
    app.route("/", callback=lambda: _to("/runs"))
    app.route("/runs", callback=lambda: _page(runs_page.context(reader), "runs.html"))
    app.route("/runs/", callback=lambda: _to("/runs"))
    app.route("/runs/<name>", callback=lambda name: _of_run(reader, name, run_page.context, "run.html"))
    app.route("/runs/<name>/", callback=lambda name: _to(f"/runs/{quote(name, safe='')}"))
    app.route("/runs/<name>/trials", callback=lambda name: _of_run(reader, name, run_page.all_trials, "trials.html"))
    app.route("/runs/<name>/trials/<n:int>", callback=lambda name, n: _trial(reader, name, n))
    app.route("/runs/<name>/trials/<n:int>/genes.png", callback=lambda name, n: _genes(reader, figures, name, n))
    app.route("/runs/<name>/figures.json", callback=lambda name: _figures(reader, figures, name))
    app.route("/runs/<name>/figures/<key>.png", callback=lambda name, key: _picture(reader, figures, name, key))
    app.route("/runs/<name>/files/<file>", callback=lambda name, file: _file(reader, name, file))
    for action in ACTIONS:
        for method in ("GET", "POST"):
            app.route(f"/runs/<name>/{action}", method, lambda name, act=action: _form(reader, forms, name, act))
    app.route("/compare", callback=lambda: _compare(reader))
    app.route("/assets/<name>", callback=_asset)
    app.default_error_handler = _error
    application: WSGIApplication = app
    return application


def _page(values: dict[str, Any], template: str) -> Any:
    """A page with its tag: a browser that has it already is told so."""
    return _tagged(render(template, **values), _HTML)


def _tagged(body: bytes, kind: str) -> Any:
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
    if tag in bottle.request.headers.get("If-None-Match", ""):
        return bottle.HTTPResponse(status=304, headers=headers)
    return bottle.HTTPResponse(body, headers=headers | {"Content-Type": kind})


def _of_run(reader: Reader, name: str, make: Any, template: str) -> Any:
    record = reader.record(_text(name))
    return _no_run(reader, _text(name)) if record is None else _page(make(reader, record), template)


def _trial(reader: Reader, name: str, number: int) -> Any:
    record = reader.record(_text(name))
    if record is None:
        return _no_run(reader, _text(name))
    found = trial_page.context(reader, record, number)
    if found is not None:
        return _page(found, "trial.html")
    search = reader.search(record)
    last = f"its trials are 0 to {search.trials[-1].number}" if search and search.trials else "it has no trials yet"
    link = (f"/runs/{quote(record.name, safe='')}", f"the run {record.name}")
    return _missing(f"Run {record.name} has no trial {number}; {last}.", [link])


def _form(reader: Reader, forms: Forms | None, name: str, action: str) -> Any:
    if forms is None:
        return _said(403, "Read-only", READ_ONLY, [])
    try:
        return (forms.do if bottle.request.method == "POST" else forms.show)(_text(name), action)
    except RunNotFoundError:
        return _no_run(reader, _text(name))


def _figures(reader: Reader, figures: Figures, name: str) -> Any:
    record = reader.record(_text(name))
    return _no_run(reader, _text(name)) if record is None else _tagged(figures.of(record), "application/json")


def _picture(reader: Reader, figures: Figures, name: str, key: str) -> Any:
    return _drawn(reader, name, lambda record: figures.picture(record, key), f"figure {key}")


def _genes(reader: Reader, figures: Figures, name: str, number: int) -> Any:
    return _drawn(reader, name, lambda record: figures.trial(record, number), f"picture of a trial {number}")


def _drawn(reader: Reader, name: str, draw: Callable[[RunRecord], bytes | None], what: str) -> Any:
    record = reader.record(_text(name))
    if record is None:
        return _no_run(reader, _text(name))
    drawn = draw(record)
    if drawn is None:
        return _missing(f"Run {record.name} has no {what}.", [(f"/runs/{quote(record.name, safe='')}", "the run")])
    return _tagged(drawn, "image/png")


def _compare(reader: Reader) -> Any:
    names = list(dict.fromkeys(_text(name) for name in bottle.request.query.getall("run")))
    return _page(compare_page.context(reader, names), "compare.html")


def _file(reader: Reader, name: str, file: str) -> Any:
    content = read_file(reader, _text(name), file)
    if content is None:
        link = f"/runs/{quote(_text(name), safe='')}"
        return _missing(f"Run {_text(name)} has no file {file} here.", [(link, "the run")])
    headers = {"Content-Type": FILES[file], "Content-Security-Policy": "default-src 'none'; sandbox"}
    return bottle.HTTPResponse(content, headers=headers)


def _asset(name: str) -> Any:
    content = library().encode() if name == LIBRARY else asset(name)
    if content is None:
        return _missing(f"There is no asset {name}.", [])
    known = "v" in bottle.request.query
    keep = "public, max-age=31536000, immutable" if known else "no-cache"
    headers = {"Content-Type": f"{ASSETS.get(name, 'text/javascript')}; charset=utf-8", "Cache-Control": keep}
    return bottle.HTTPResponse(content, headers=headers)


def _no_run(reader: Reader, name: str) -> Any:
    names = [record.name for record in reader.runs.list()]
    damaged = reader.damaged().get(name)
    if damaged:
        return _missing(f"Run {name} cannot be read: {damaged}", [])
    meant = did_you_mean(name, names)
    near = [one for one in names if repr(one) in meant] or names[-5:][::-1]
    return _missing(f"There is no run {name}.", [(f"/runs/{quote(one, safe='')}", one) for one in near])


def _missing(text: str, links: list[tuple[str, str]]) -> Any:
    return _said(404, "Not found", text, links)


def _said(status: int, title: str, text: str, links: list[tuple[str, str]]) -> Any:
    body = render("error.html", title=title, text=text, links=links, live=None)
    headers = {"Content-Type": _HTML, "Content-Security-Policy": POLICY, "Cache-Control": "no-store"}
    return bottle.HTTPResponse(body, status=status, headers=headers)


def _error(error: Any) -> Any:
    """The page of what went wrong, in the words of the exception if it is one of ours."""
    cause = error.exception
    if error.status_code == 404:
        found = _missing(f"Nothing is at {_text(bottle.request.path)}.", [])
    else:
        ours = isinstance(cause, GlorasearchError)
        if not ours:
            _log.error("a page failed", exc_info=cause)
        text = str(cause) if ours else "This page could not be made; the server's log says why."
        found = _said(error.status_code, "This did not work", text, [])
    for header, value in found.headers.items():
        bottle.response.set_header(header, value)
    bottle.response.status = found.status_code
    return found.body


def _to(path: str) -> Any:
    return bottle.HTTPResponse(status=302, headers={"Location": path})


def _text(raw: str) -> str:
    """A part of a path or query as text: bottle may leave it as the bytes of UTF-8, read as Latin-1."""
    try:
        return raw.encode("latin-1").decode()
    except (UnicodeEncodeError, UnicodeDecodeError):
        return raw
