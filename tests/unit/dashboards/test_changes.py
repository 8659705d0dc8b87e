"""A dashboard with --allow-changes, over real connections: notes, names, removals, by forms and Optuna's pages."""

from __future__ import annotations

import html
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from optuna.study import StudyDirection
from sqlalchemy import text
from support.changes import Client, filled, note_of, served
from support.places import A, C, Place

from dashboards.own_note import BELOW
from glorasearch.db import NoteStore, RunState, TrialStorage


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
    for broken in ("{", "[" * 100_000, '{"a":' * 40_000):
        status, _, said = client.ask("PUT", address, broken, Content_Type="application/json", **client.own)
        assert (status, "what was sent is no JSON" in said) == (400, True)
    assert note_of(place) == "all anew"


def test_what_is_written_where_it_would_be_lost_is_refused(client: Client, place: Place) -> None:
    study = client.study("flowers")
    address, shown = f"/api/studies/{study}/note", client.note(study)["body"]
    ends = ("{}\n\nat the end", "{} at the end", "{}\n| at the end | 1 |", "{}\n\n### at the end")
    for body in (shown.replace(BELOW, f"{BELOW} at the end"), *(end.format(shown) for end in ends)):
        status, said = client.call("PUT", address, {"version": 1, "body": f"kept\n\n{body}"})
        assert (status, "at the end" in said["reason"]) == (400, True)
        assert "put it above that line" in said["reason"]
    assert note_of(place) == ""
    client.call("POST", f"/api/studies/{study}/rename", {"study_name": "roses"})
    earlier = shown.replace("finished", "running") + "\n\n### Loss\n\n![Loss](/runs/flowers/figures/loss.png)"
    assert client.call("PUT", address, {"version": 1, "body": f"kept\n\n{earlier}"}) == (200, {})
    assert note_of(place, "roses") == "kept"


def test_a_page_from_before_the_search_changes_the_run_after_it(client: Client, place: Place) -> None:
    place.workspace.runs.create("begun", {"seed": 1}, "digest")
    place.workspace.runs.set_state("begun", RunState.STOPPED)
    before = client.study("begun")
    TrialStorage(place.workspace.database).create_new_study([StudyDirection.MINIMIZE], "begun")
    body = f"mine\n\n{client.note(before)['body']}"
    assert client.call("PUT", f"/api/studies/{before}/note", {"version": 1, "body": body}) == (200, {})
    assert note_of(place, "begun") == "mine"
    status, said = client.call("POST", f"/api/studies/{before}/rename", {"study_name": "ended"})
    assert (status, said["study_id"]) == (200, client.study("ended"))
    assert client.call("DELETE", f"/api/studies/{before}", {}) == (200, {})
    assert place.state[0] == {"flowers", "birds"}


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


def test_renaming_and_removing_need_no_torch(place: Place) -> None:
    code = (
        "import sys; from pathlib import Path; from dashboards.changes import Changes\n"
        "from glorasearch.runs.workspace import Workspace\n"
        f"changes = Changes(Workspace.open({str(place.path)!r}))\n"
        "changes.rename('flowers', 'roses'); changes.remove('roses')\n"
        "print('torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert (said, place.state[0]) == ("False\n", {"birds"})
