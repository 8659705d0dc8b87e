"""A dashboard with --allow-changes, over real connections: notes, names, removals; and what it refuses."""

from __future__ import annotations

import html
import http.client
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from sqlalchemy import text
from support.places import A, B, C, Place

from dashboards import make_server
from dashboards.own_note import BELOW
from glorasearch.db import NoteStore, RunState

FORM = "application/x-www-form-urlencoded"
TOKEN = "correct-horse-battery-staple"
CALLS = (
    ("POST", "/runs/flowers/note"), ("POST", "/runs/flowers/rename"), ("POST", "/runs/flowers/remove"),
    ("PUT", "/api/studies/1/note"), ("DELETE", "/api/studies/1"), ("POST", "/api/studies/1/rename"),
)  # fmt: skip


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


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return filled(Place(tmp_path / "workspace"))


@pytest.fixture
def client(place: Place) -> Iterator[Client]:
    with served(place) as found:
        yield found


def note_of(place: Place, run: str = "flowers") -> str:
    return NoteStore(place.workspace.database).of(run).text


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_a_dashboard_without_it_refuses_every_change_in_words(place: Place, method: str, path: str) -> None:
    before = place.state
    with served(place, allow=False) as client:
        status, headers, said = client.ask(method, path, "{}", Content_Type="application/json", **client.own)
        assert (status, headers["Allow"]) == (405, "GET, HEAD")
        assert "started with --allow-changes" in json.loads(said)["reason"]
        for action in ("note", "rename", "remove"):
            status, _, said = client.ask("GET", f"/runs/flowers/{action}")
            assert status == 403
            assert "--allow-changes" in said
            assert f"/runs/flowers/{action}" not in client.ask("GET", "/runs/flowers")[2]
        assert BELOW not in client.note(client.study("flowers"))["body"]
    assert (place.state, note_of(place)) == (before, "")


@pytest.mark.parametrize(("method", "path"), CALLS)
@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "null"}, {"Origin": "http://evil.example"}, {"Origin": "http://127.0.0.1:1"}, {"Origin": ""},
     {"Origin": "http://127.0.0.1"}, {"Origin": "http://["}, {"Sec_Fetch_Site": "cross-site"},
     {"Sec_Fetch_Site": "none"}, {"Sec_Fetch_Site": "same-site", "Origin": "http://127.0.0.1:{port}"}],
)  # fmt: skip
def test_other_pages_change_nothing(
    shared: tuple[Place, Client], method: str, path: str, headers: dict[str, str]
) -> None:
    place, client = shared
    given = {name: value.format(port=client.port) for name, value in headers.items()}
    fields = client.form(path) | {"text": "x", "name": "x", "sure": "yes"} if path.startswith("/runs") else {}
    body = urlencode(fields) if fields else json.dumps({"version": 1, "body": "x", "study_name": "x"})
    kind = FORM if fields else "application/json"
    status, _, said = client.ask(method, path, body, Content_Type=kind, **given)
    assert status == 403
    assert "changes are taken from pages of this dashboard" in json.loads(said)["reason"]
    assert (place.state[0], note_of(place)) == ({"flowers", "birds"}, "")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Client]]:
    """A server that tests change nothing of."""
    place = filled(Place(tmp_path_factory.mktemp("shared") / "workspace"))
    with served(place) as client:
        yield place, client


@pytest.mark.parametrize("action", ["note", "rename", "remove"])
@pytest.mark.parametrize("seal", ["", "0" * 64, "é", "of another"])
def test_a_form_that_is_not_ours_changes_nothing_and_keeps_what_was_written(
    shared: tuple[Place, Client], action: str, seal: str
) -> None:
    place, client = shared
    path = f"/runs/flowers/{action}"
    other = client.form(f"/runs/birds/{action}")["seal"]
    fields = client.form(path) | {"seal": other if seal == "of another" else seal}
    status, headers, page = client.send(path, fields | {"text": "as I said", "name": "roses", "sure": "yes"})
    assert status == 403
    assert "This form was not sent by a page of this dashboard" in page
    assert "form-action 'self'" in headers["Content-Security-Policy"]
    assert {"note": "as I said</textarea>", "rename": 'value="roses"', "remove": "<h1>Remove flowers"}[action] in page
    assert (place.state[0], note_of(place)) == ({"flowers", "birds"}, "")


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/api/studies/1/2/note"), ("POST", "/api/studies"), ("POST", "/api/trials/1/tell"),
     ("POST", "/api/trials/1/user-attrs"), ("POST", "/api/artifacts/1"), ("DELETE", "/api/artifacts/1/abc"),
     ("PUT", "/api/studies/1/preference_feedback_component"), ("POST", "/incompatible-rdb-schema"),
     ("POST", "/runs"), ("POST", "/runs/flowers"), ("PUT", "/runs/flowers/note"), ("DELETE", "/runs/flowers/remove"),
     ("POST", "/api/studies/1/note"), ("POST", "/api/studies/1/rename/"), ("PATCH", "/api/studies/1"),
     ("OPTIONS", "/api/studies/1"), ("POST", "/runs/flowers/trials")],
)  # fmt: skip
def test_nothing_else_is_taken(shared: tuple[Place, Client], method: str, path: str) -> None:
    place, client = shared
    status, _, said = client.ask(method, path, "{}", Content_Type="application/json", **client.own)
    assert status == 405
    assert "takes notes of runs, renames and removes them; no more" in json.loads(said)["reason"]
    assert place.state[0] == {"flowers", "birds"}


def test_a_request_may_send_so_much(shared: tuple[Place, Client]) -> None:
    _, client = shared
    path = "/runs/flowers/note"
    status, _, _ = client.send(path, client.form(path) | {"text": "x" * 300_000})
    assert status == 413
    status, _, page = client.send(path, client.form(path) | {"text": "🌷" * 10_001})
    assert status == 400
    assert "has 10,001 characters" in page
    status, _, page = client.send(path, client.form(path) | {"text": "a\x1bb"})
    assert (status, "at place 2" in page) == (400, True)
    for broken in (b"\xff=1", b"&".join(b"a=1" for _ in range(99)), b""):
        assert client.ask("POST", path, broken, Content_Type=FORM, **client.own)[0] == 403


def test_changes_work_on_both_databases(database_url: str, tmp_path: Path) -> None:
    place = filled(Place(tmp_path / "workspace", database_url))
    with served(place) as client:
        path = "/runs/flowers/note"
        status, headers, _ = client.send(path, client.form(path) | {"text": "<b>three</b> seeds\r\nsee birds"})
        assert (status, headers["Location"]) == (303, "/runs/flowers")
        assert note_of(place) == "<b>three</b> seeds\nsee birds"
        assert "&lt;b&gt;three&lt;/b&gt; seeds\nsee birds</p>" in client.ask("GET", "/runs/flowers")[2]
        assert "&lt;b&gt;three&lt;/b&gt; seeds …</span>" in client.ask("GET", "/runs")[2]
        path = "/runs/flowers/rename"
        status, headers, _ = client.send(path, client.form(path) | {"name": " roses "})
        assert (status, headers["Location"]) == (303, "/runs/roses")
        assert place.state[:3] == ({"roses", "birds"},) * 3
        assert note_of(place, "roses") == "<b>three</b> seeds\nsee birds"
        study = client.study("roses")
        assert client.note(study)["body"].startswith("<b>three</b> seeds\nsee birds\n\n---\n\n")
        assert client.call("PUT", f"/api/studies/{study}/note", {"version": 2, "body": "four"}) == (200, {})
        assert note_of(place, "roses") == "four"
        path = "/runs/roses/remove"
        status, headers, _ = client.send(path, client.form(path) | {"sure": "yes"})
        assert (status, headers["Location"]) == (303, "/runs")
        assert place.state[:3] == ({"birds"},) * 3
        assert client.ask("GET", "/runs/roses")[0] == 404
        assert client.call("DELETE", f"/api/studies/{client.study('birds')}", {}) == (200, {})
        assert place.state[:3] == (set(),) * 3


def test_who_wrote_of_an_older_note_sees_both(client: Client, place: Place) -> None:
    path = "/runs/flowers/note"
    first, second = client.form(path), client.form(path)
    assert client.send(path, first | {"text": "the first"})[0] == 303
    status, _, page = client.send(path, second | {"text": "the second"})
    assert status == 409
    assert "changed by somebody else after you read it" in html.unescape(page)
    assert '<p class="note noted">the first</p>' in page
    assert "\nthe second</textarea>" in page
    assert note_of(place) == "the first"
    now = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))
    assert client.send(path, now | {"text": "the second"})[0] == 303
    assert note_of(place) == "the second"
    assert client.send(path, client.form(path) | {"text": " "})[0] == 303
    assert note_of(place) == ""
    for version in ("", "-1", "x", "9" * 30):
        status, _, page = client.send(path, first | {"version": version, "text": "x"})
        assert (status, "which version" in page) == (400, True)


def test_a_removal_is_ticked_and_of_what_was_read(client: Client, place: Place) -> None:
    path, before = "/runs/flowers/remove", place.state
    page = client.ask("GET", path)[2]
    assert "1 weight set that no other run uses" in page
    assert "1 weight set that others may use" in page
    assert "report and exported model" in page
    assert str(place.workspace.run_folder("flowers")) in page
    read = client.form(path)
    status, _, page = client.send(path, read)
    assert (status, "tick that you want it" in page) == (400, True)
    NoteStore(place.workspace.database).write("flowers", "to be kept!")
    status, _, page = client.send(path, read | {"sure": "yes"})
    assert (status, "has changed after you read it" in page) == (409, True)
    assert place.state == before
    assert client.send(path, client.form(path) | {"sure": "yes"})[0] == 303
    assert place.state == ({"birds"}, {"birds"}, {"birds"}, {A, C})
    status, _, page = client.send(path, read | {"sure": "yes"})
    assert (status, "There is no run flowers." in page) == (404, True)


@pytest.mark.parametrize(
    ("name", "says"),
    [("a/b", "has at most 200 letters"), ("", "has at most 200 letters"), ("birds", "there is a run 'birds' in"),
     ("x" * 201, "has at most 200 letters"), ("<i>", "has at most 200 letters")],
)  # fmt: skip
def test_names_that_cannot_be_used(client: Client, place: Place, name: str, says: str) -> None:
    before, path = place.state, "/runs/flowers/rename"
    status, _, page = client.send(path, client.form(path) | {"name": name})
    assert (status, says in html.unescape(page)) == (400, True)
    assert f'value="{html.escape(name)}"' in page
    status, said = client.call("POST", f"/api/studies/{client.study('flowers')}/rename", {"study_name": name})
    assert (status, says in said["reason"]) == (400, True)
    assert place.state == before


def test_a_run_at_work_and_one_that_others_need_stay(client: Client, place: Place) -> None:
    place.add("point", point={"run": "flowers", "trial": 1})
    study = client.study("flowers")
    assert "run 'flowers' is needed by 'point'" in html.unescape(client.ask("GET", "/runs/flowers/remove")[2])
    assert client.call("DELETE", f"/api/studies/{study}", {})[0] == 400
    rename = client.form("/runs/birds/rename") | {"name": "crows"}
    place.workspace.runs.set_state("birds", RunState.RUNNING)
    before = place.state
    with place.workspace.runs.lock("birds"):
        for action in ("rename", "remove"):
            status, _, page = client.ask("GET", f"/runs/birds/{action}")
            assert (status, "run 'birds' is being worked on by " in html.unescape(page)) == (200, True)
            assert "<form" not in page
        assert client.send("/runs/birds/rename", rename)[0] == 409
        study = client.study("birds")
        for method, path in (("DELETE", ""), ("POST", "/rename")):
            status, said = client.call(method, f"/api/studies/{study}{path}", {"study_name": "crows"})
            assert (status, "is being worked on by" in said["reason"]) == (409, True)
        path = "/runs/birds/note"
        assert client.send(path, client.form(path) | {"text": "it works"})[0] == 303, "a note is no work on the run"
    assert place.state == before


@pytest.mark.parametrize("action", ["note", "rename", "remove"])
def test_of_several_writers_at_once_one_is_heard_and_the_others_are_told(
    client: Client, place: Place, action: str
) -> None:
    path = f"/runs/flowers/{action}"
    forms = [client.form(path) for _ in range(6)]
    together, answers = threading.Barrier(6), []

    def write(number: int) -> None:
        together.wait()
        fields = {"text": f"writer {number}", "name": f"name-{number}", "sure": "yes"}
        answers.append(client.send(path, forms[number] | fields)[0])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.count(303) == 1
    assert set(answers) <= {303, 404, 409}
    if action == "note":
        assert answers.count(409) == 5
    else:
        assert len(place.state[0]) == (2 if action == "rename" else 1)


def test_optunas_pages_write_above_what_is_made(client: Client, place: Place) -> None:
    study = client.study("flowers")
    shown = client.note(study)
    assert shown["version"] == 0
    assert shown["body"].startswith(f"---\n\n{BELOW}\n\n| Run | flowers |")
    address = f"/api/studies/{study}/note"
    body = f"kept\r\n\r\n| a | b |\n|---|---|\n\n{shown['body']}"
    assert client.call("PUT", address, {"version": 1, "body": body}) == (200, {})
    assert note_of(place) == "kept\n\n| a | b |\n|---|---|"
    again = client.note(study)
    assert (again["version"], again["body"].count(BELOW)) == (1, 1)
    assert client.note(study)["version"] == 1, "an open editor can save as long as nobody else has"
    status, said = client.call("PUT", address, {"version": 1, "body": "late"})
    assert (status, said["note"]["version"]) == (409, 1)
    assert said["note"]["body"].startswith("kept\n\n| a | b |")
    assert "somebody else" in said["reason"]
    status, said = client.call("PUT", address, {"version": 2, "body": again["body"].replace(BELOW, "")})
    assert (status, "put it back below your note" in said["reason"]) == (400, True)
    assert client.call("PUT", address, {"version": 2, "body": "all anew"}) == (200, {})
    assert note_of(place) == "all anew"
    for wrong in ({"version": "3", "body": "x"}, {"version": 3}, {"body": "x"}, [], None, "x"):
        assert client.call("PUT", address, wrong)[0] == 400
    assert client.ask("PUT", address, "{", Content_Type="application/json", **client.own)[0] == 400
    assert note_of(place) == "all anew"


def test_optunas_pages_rename_and_remove_runs_before_their_search_too(client: Client, place: Place) -> None:
    place.workspace.runs.create("begun", {"seed": 1}, "digest")
    place.workspace.runs.set_state("begun", RunState.STOPPED)
    for run, renamed in (("flowers", "roses"), ("begun", "ended")):
        study = client.study(run)
        status, said = client.call("POST", f"/api/studies/{study}/rename", {"study_name": renamed})
        assert (status, said["study_id"], said["study_name"].split(" · ")[0]) == (200, study, renamed)
        assert client.study(renamed) == study
    assert client.call("POST", f"/api/studies/{study}/rename", {"study_name": 7})[0] == 400
    assert client.call("DELETE", f"/api/studies/{study}", {"remove_associated_artifacts": False}) == (200, {})
    assert place.state[0] == {"roses", "birds"}
    for gone in (study, 77, 10**17):
        status, said = client.call("DELETE", f"/api/studies/{gone}", {})
        assert (status, "is not that of a run" in said["reason"]) == (404, True)


def test_a_damaged_note_and_a_damaged_run_are_mended_by_the_pages(client: Client, place: Place) -> None:
    path = "/runs/flowers/note"
    client.send(path, client.form(path) | {"text": "whole"})
    with place.workspace.database.write() as connection:
        connection.execute(text("UPDATE glorasearch_notes SET text = X'FF'"))
        connection.execute(text("UPDATE glorasearch_runs SET config = '{' WHERE name = 'birds'"))
    for page in ("/runs/flowers", path):
        status, _, said = client.ask("GET", page)
        assert (status, "The note cannot be read: " in said) == (200, True)
    assert '<a href="/runs/birds/remove">Remove it</a>' in client.ask("GET", "/runs")[2]
    assert client.send(path, client.form(path) | {"text": "mended"})[0] == 303
    assert note_of(place) == "mended"
    path = "/runs/birds/remove"
    assert client.send(path, client.form(path) | {"sure": "yes"})[0] == 303
    assert place.state[0] == {"flowers"}


def test_with_a_token_only_who_has_it_changes_anything(place: Place) -> None:
    with served(place, token=TOKEN) as client:
        for method, path in CALLS:
            assert client.ask(method, path, "{}", Content_Type="application/json", **client.own)[0] == 401
        status, headers, _ = client.send("/login", {"token": TOKEN})
        cookie = headers["Set-Cookie"].split(";")[0]
        assert (status, cookie.split("=")[0]) == (303, f"glorasearch-{client.port}")
        page = client.ask("GET", "/runs/flowers/note", Cookie=cookie)[2]
        fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))
        assert client.send("/runs/flowers/note", fields | {"text": "mine"}, Cookie=cookie)[0] == 303
        assert client.send("/runs/flowers/note", fields | {"text": "mine"}, Cookie="glorasearch-1=x")[0] == 401
    assert note_of(place) == "mine"
