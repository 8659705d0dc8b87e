"""Pages that change a run: its note, its name, its removal. Each is a form that says which version it was made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qs, quote

import bottle

from dashboards.changes import Changes
from dashboards.pages.render import POLICY, render
from glorasearch.db.notes import MOST
from glorasearch.errors import (
    ChangedMeanwhileError,
    DatabaseError,
    GlorasearchError,
    InputError,
    RunLockedError,
    RunNotFoundError,
)
from glorasearch.runs.config import MOST_NAME

ACTIONS: Final = ("note", "rename", "remove")
READ_ONLY: Final = "This dashboard is read-only; one that is started with --allow-changes has this page."
_FORM: Final = "application/x-www-form-urlencoded"
_FIELDS: Final = 16
"""Most fields of a form."""
_OLD: Final = (
    "This form was not sent by a page of this dashboard, or by one from before the server was started anew; nothing "
    "was changed. Look at it, and send it again."
)
_STATUS: Final = (
    (ChangedMeanwhileError, 409),
    (RunLockedError, 409),
    (InputError, 400),
    (DatabaseError, 503),
    (GlorasearchError, 500),
)


class Forms:
    """The pages; each is shown by GET, and does what it says by POST."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._showing = {"note": self._of_note, "rename": self._of_rename, "remove": self._of_remove}
        self._doing: dict[str, Callable[[str, dict[str, str]], str]] = {
            "note": self._note,
            "rename": self._rename,
            "remove": self._remove,
        }

    def show(self, run: str, action: str) -> Any:
        """The page with the form.

        Raises:
            RunNotFoundError: if there is no such run.
        """
        return self._page(run, action, {})

    def do(self, run: str, action: str) -> Any:
        """Do it and lead to what has become of it; or the page with what was given, and why not.

        Raises:
            RunNotFoundError: if there is no such run.
        """
        given = _given()
        if not self._changes.is_sealed(action, run, given.get("seal", "")):
            return self._page(run, action, given, _OLD, 403)
        try:
            place = self._doing[action](run, given)
        except RunNotFoundError:
            raise
        except GlorasearchError as error:
            status = next(status for kind, status in _STATUS if isinstance(error, kind))
            return self._page(run, action, given, str(error), status)
        return bottle.HTTPResponse(status=303, headers={"Location": place})

    def _note(self, run: str, given: dict[str, str]) -> str:
        self._changes.write_note(run, given.get("text", ""), _whole(given.get("version", "")))
        return _page_of(run)

    def _rename(self, run: str, given: dict[str, str]) -> str:
        new = given.get("name", "").strip()
        self._changes.rename(run, new, given.get("version", ""))
        return _page_of(new)

    def _remove(self, run: str, given: dict[str, str]) -> str:
        if given.get("sure") != "yes":
            raise InputError("nothing was removed: tick that you want it")
        self._changes.remove(run, given.get("version", ""))
        return "/runs"

    def _page(self, run: str, action: str, given: dict[str, str], problem: str = "", status: int = 200) -> Any:
        record = self._changes.record(run)
        found = {
            "run": run,
            "state": "damaged" if record is None else record.state.value,
            "seal": self._changes.seal(action, run),
            "problem": problem,
            "live": None,
        }
        body = render(f"{action}.html", **found, **self._showing[action](run, given, problem))
        headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": POLICY,
            "Cache-Control": "no-store",
        }
        return bottle.HTTPResponse(body, status=status, headers=headers)

    def _of_note(self, run: str, given: dict[str, str], problem: str) -> dict[str, Any]:
        text, damage = self._changes.notes.readable(run)
        version = self._changes.notes.version(run)
        theirs = text if problem and given.get("version") != str(version) else None
        return {
            "text": given.get("text", text),
            "theirs": theirs,
            "damage": damage,
            "version": version,
            "most": MOST,
        }

    def _of_rename(self, run: str, given: dict[str, str], problem: str) -> dict[str, Any]:
        return {
            "name": given.get("name", run),
            "version": self._changes.version(run),
            "most": MOST_NAME,
            "refusal": self._refusal(lambda: self._changes.check_idle(run)),
        }

    def _of_remove(self, run: str, given: dict[str, str], problem: str) -> dict[str, Any]:
        found: list[Any] = []
        version = self._changes.version(run)
        refusal = self._refusal(lambda: found.append(self._changes.ahead_of_removal(run)))
        return {"found": found[0] if found else None, "version": version, "refusal": refusal}

    @staticmethod
    def _refusal(check: Callable[[], None]) -> str:
        """Why it cannot be done now; empty if it can."""
        try:
            check()
        except RunNotFoundError:
            raise
        except GlorasearchError as error:
            return str(error)
        return ""


def _given() -> dict[str, str]:
    """The fields of the form that was sent; none if it is no form."""
    request = bottle.request
    if request.content_type.partition(";")[0].strip().lower() != _FORM:
        return {}
    raw = request.environ["wsgi.input"].read(max(0, request.content_length))
    try:
        found = parse_qs(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_FIELDS)
    except ValueError:
        return {}
    return {name: values[-1] for name, values in found.items()}


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise InputError("the form does not say which version of the note it was made of; open it again")
    return int(text)


def _page_of(run: str) -> str:
    return f"/runs/{quote(run, safe='')}"
