"""A dashboard that changes runs, and a browser's requests to it."""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from dashboards import make_server
from glorasearch.db import NoteStore
from support.places import A, B, C, Place

FORM = "application/x-www-form-urlencoded"


class Client:
    """A browser's requests to a server on this machine, as far as they concern the server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.own = {"Origin": f"http://127.0.0.1:{port}"}

    def ask(
        self, method: str, path: str, body: str | bytes = "", **headers: str
    ) -> tuple[int, http.client.HTTPMessage, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): one for name, one in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()
        finally:
            connection.close()

    def form(self, path: str) -> dict[str, str]:
        """The fields of a form that a person does not fill in."""
        status, _, page = self.ask("GET", path)
        assert status == 200, page
        return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))

    def send(self, path: str, fields: dict[str, str], **headers: str) -> tuple[int, http.client.HTTPMessage, str]:
        """Send a form, as a page of the server does."""
        return self.ask("POST", path, urlencode(fields), Content_Type=FORM, **(self.own | headers))

    def call(self, method: str, path: str, content: Any = None) -> tuple[int, Any]:
        """What Optuna's pages send."""
        status, _, said = self.ask(method, path, json.dumps(content), Content_Type="application/json", **self.own)
        return status, json.loads(said)

    def study(self, run: str) -> int:
        """The id of the study of a run in Optuna's list."""
        found = json.loads(self.ask("GET", "/api/studies")[2])["study_summaries"]
        return int(next(one["study_id"] for one in found if one["study_name"].split(" · ")[0] == run))

    def note(self, study: int) -> dict[str, Any]:
        """The note of a study in Optuna's pages."""
        return dict(json.loads(self.ask("GET", f"/api/studies/{study}?after=0")[2])["note"])


@contextmanager
def served(place: Place, *, allow: bool = True, token: str | None = None) -> Iterator[Client]:
    workspace = place.workspace
    options: dict[str, Any] = {"folder": place.path / "runs", "token": token}
    with make_server(workspace.database_url, port=0, workspace=workspace if allow else None, **options) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield Client(server.port)
        finally:
            server.stop()
            thread.join()


def filled(place: Place) -> Place:
    place.add("flowers", A, B)
    place.add("birds", A, C)
    return place


def note_of(place: Place, run: str = "flowers") -> str:
    return NoteStore(place.workspace.database).of(run).text
