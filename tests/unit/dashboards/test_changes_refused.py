"""What a dashboard refuses to change, over real connections: without --allow-changes, and from other pages."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from support.changes import FORM, Client, filled, note_of, served
from support.places import Place

from dashboards.own_note import BELOW
from glorasearch.db import RunState

TOKEN = "correct-horse-battery-staple"
CALLS = (
    ("POST", "/runs/flowers/note"), ("POST", "/runs/flowers/rename"), ("POST", "/runs/flowers/remove"),
    ("PUT", "/api/studies/1/note"), ("DELETE", "/api/studies/1"), ("POST", "/api/studies/1/rename"),
)  # fmt: skip


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
