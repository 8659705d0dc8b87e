"""The calls of Optuna's pages that change something, answered by our own code: its own would copy and delete studies.

Its pages read every answer as JSON, show the `reason` of a note that was not saved, and the note of an answer 409.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from dashboards.changes import Changes
from dashboards.doors import refuse
from dashboards.optuna_view import RunsView
from dashboards.own_note import own_part
from glorasearch.errors import (
    ChangedMeanwhileError,
    GlorasearchError,
    InputError,
    RunLockedError,
    RunNotFoundError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

_CALLS: Final = {
    ("PUT", "note"): re.compile(r"/api/studies/([0-9]{1,18})/note"),
    ("DELETE", "remove"): re.compile(r"/api/studies/([0-9]{1,18})"),
    ("POST", "rename"): re.compile(r"/api/studies/([0-9]{1,18})/rename"),
}
_STATUS: Final = (
    (ChangedMeanwhileError, "409 Conflict"),
    (RunLockedError, "409 Conflict"),
    (RunNotFoundError, "404 Not Found"),
    (InputError, "400 Bad Request"),
    (GlorasearchError, "500 Internal Server Error"),
)


class OptunaCalls:
    """A WSGI application for these calls."""

    def __init__(self, view: RunsView, changes: Changes) -> None:
        self._view, self._changes = view, changes
        self._answers: dict[str, Callable[[int, str, Any], Any]] = {
            "note": self._note,
            "remove": self._remove,
            "rename": self._rename,
        }

    @staticmethod
    def action(method: str, path: str) -> tuple[str, int] | None:
        """What a request asks for, and the id of the study; None if it is none of these calls."""
        for (wanted, action), pattern in _CALLS.items():
            if method == wanted and (found := pattern.fullmatch(path)):
                return action, int(found[1])
        return None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one of these calls."""
        asked = self.action(environ["REQUEST_METHOD"], environ.get("PATH_INFO", ""))
        if asked is None:
            return refuse(start_response, "404 Not Found", "this is no call of Optuna's pages")
        action, study_id = asked[0], self._view.begun(asked[1])
        run = self._view.run_of(study_id)
        if run is None:
            return refuse(start_response, "404 Not Found", f"study {study_id} is not that of a run")
        try:
            answer = self._answers[action](study_id, run, _content(environ, action))
        except GlorasearchError as error:
            status = next(status for kind, status in _STATUS if isinstance(error, kind))
            known = {"note": self._shown(study_id)} if action == "note" and status.startswith("409") else {}
            return refuse(start_response, status, str(error), **known)
        finally:
            self._view.forget()
        body = json.dumps(answer).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    def _note(self, study_id: int, run: str, content: Any) -> dict[str, Any]:
        version, body = content.get("version"), content.get("body")
        if type(version) is not int or not isinstance(body, str):
            raise InputError("a note is sent as its version, a whole number, and its body, a text")
        self._changes.write_note(run, own_part(body, run, self._shown(study_id)["body"]), version - 1)
        return {}

    def _remove(self, study_id: int, run: str, content: Any) -> dict[str, Any]:
        self._changes.remove(run)
        return {}

    def _rename(self, study_id: int, run: str, content: Any) -> Any:
        from optuna_dashboard._serializer import serialize_frozen_study

        name = content.get("study_name")
        if not isinstance(name, str):
            raise InputError("a study is renamed by its new study_name, a text")
        self._changes.rename(run, name.strip())
        self._view.forget()
        found = next((study for study in self._view.get_all_studies() if study._study_id == study_id), None)
        if found is None:
            raise RunNotFoundError(f"run {run!r} was renamed, and has been removed since")
        return serialize_frozen_study(found)

    def _shown(self, study_id: int) -> dict[str, Any]:
        """The note as it is now, in Optuna's form."""
        self._view.forget()
        with self._view.asked(study_id):
            return self._view.note_of(study_id)


def _content(environ: WSGIEnvironment, action: str) -> dict[str, Any]:
    """The JSON object that a call sends; a removal needs none.

    Raises:
        InputError: if it is something else.
    """
    length = environ.get("CONTENT_LENGTH") or "0"
    raw = environ["wsgi.input"].read(int(length)) if length.isdecimal() else b""
    if action == "remove":
        return {}
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InputError(f"what was sent is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise InputError("what was sent is no JSON object")
    return found
