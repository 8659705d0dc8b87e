"""A dashboard with a token, over real connections: who has it reads, nobody else reads anything."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from optuna.study import StudyDirection
from support.dashboards import served

from dashboards import make_server
from glorasearch.cli.secret_arguments import without_secrets
from glorasearch.db import TrialStorage
from glorasearch.errors import InputError

TOKEN = "correct-horse-battery-staple"
PATHS = ("/", "/runs", "/compare", "/assets/pages.css", "/dashboard", "/api/studies", "/static/bundle.js", "/nothing")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    storage = TrialStorage(f"sqlite:///{tmp_path_factory.mktemp('dashboard')}/trials.db")
    storage.create_new_study([StudyDirection.MAXIMIZE], "a search")
    found: str = storage.database.url.render_as_string()
    storage.database.close()
    return found


@pytest.fixture(scope="module")
def port(url: str) -> Iterator[int]:
    with make_server(url, port=0, token=TOKEN) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        yield server.port
        server.stop()
        thread.join()


def ask(
    port: int, path: str, method: str = "GET", body: str = "", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def sign_in(port: int, token: str, target: str = "/runs") -> tuple[int, http.client.HTTPMessage, bytes]:
    form = urlencode({"token": token, "next": target})
    return ask(port, "/login", "POST", form, Content_Type="application/x-www-form-urlencoded")


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_nothing_is_read(port: int, path: str) -> None:
    status, headers, body = ask(port, path)
    assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "/login" in json.loads(body)["reason"]
    status, headers, body = ask(port, path, Accept="text/html")
    assert (status, headers["Location"], body) == (303, f"/login?next={path}", b"")


@pytest.mark.parametrize("wrong", ["", "wrong", TOKEN[:-1], TOKEN + "x", "pässword", TOKEN.upper()])
def test_a_wrong_token_is_refused(port: int, wrong: str) -> None:
    status, headers, body = sign_in(port, wrong)
    assert status == 401
    assert "Set-Cookie" not in headers
    assert b"This is not the token." in body
    assert ask(port, "/api/studies", Authorization=f"Bearer {wrong}".encode().decode("latin-1"))[0] == 401
    assert ask(port, "/api/studies", Cookie="glorasearch=0123; other=1")[0] == 401


def test_who_signs_in_reads_from_then_on(port: int) -> None:
    status, headers, _ = sign_in(port, TOKEN, "/runs?sort-runs=1.up")
    assert (status, headers["Location"]) == (303, "/runs?sort-runs=1.up")
    cookie, *properties = headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict"} <= set(properties)
    assert TOKEN not in cookie
    for path in PATHS[1:-1]:
        assert ask(port, path, Cookie=f"theme=dark; {cookie}")[0] == 200, path
    assert ask(port, "/api/studies", "POST", Cookie=cookie)[0] == 405, "it still only reads"
    for other in ('state={"open": 1}', "flag", "a=b c", 'a=b"c', "\xe9=\xe9", cookie.partition("=")[0] + "=0123"):
        assert ask(port, "/runs", Cookie=f"{other}; {cookie}")[0] == 200, "what other servers of this host have set"
        assert ask(port, "/runs", Cookie=f"{cookie}; {other}")[0] == 200
        assert ask(port, "/runs", Cookie=other)[0] == 401


def test_programs_send_it_with_each_request(port: int) -> None:
    status, _, body = ask(port, "/api/studies", Authorization=f"Bearer {TOKEN}")
    assert status == 200
    assert json.loads(body)["study_summaries"][0]["study_name"] == "a search"


@pytest.mark.parametrize("target", ["//evil.example", "/\\evil.example", "https://evil.example", "javascript:0", ""])
def test_nobody_is_led_elsewhere(port: int, target: str) -> None:
    assert sign_in(port, TOKEN, target)[1]["Location"] == "/"


def test_the_form_may_do_nothing_else(port: int) -> None:
    status, headers, body = ask(port, "/login?next=/%22%3E%3Cscript%3E")
    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Frame-Options"] == "DENY"
    assert b"<script>" not in body


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.7", "gpu1"])
def test_other_machines_are_served_with_a_token_only(url: str, host: str) -> None:
    with pytest.raises(InputError, match="needs a token there: set GLORASEARCH_DASHBOARD_TOKEN"):
        make_server(url, host, port=0)


def test_space_around_the_token_does_not_count(url: str) -> None:
    with make_server(url, port=0, token=f" {TOKEN}\n") as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            assert sign_in(server.port, TOKEN)[0] == 303
            assert ask(server.port, "/api/studies", Authorization=f"Bearer {TOKEN}")[0] == 200
        finally:
            server.stop()
            thread.join()
    with pytest.raises(InputError, match="has 6 characters"):
        make_server(url, port=0, token="secret" + " " * 20)


def test_a_short_token_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="has 6 characters; take 16 or more"):
        make_server(url, port=0, token="secret")


@pytest.mark.parametrize("more", [(), ("--allow-changes",)])
def test_the_command_refuses_before_anything_is_opened(tmp_path: Path, more: tuple[str, ...]) -> None:
    arguments = ["dashboard", "--host", "0.0.0.0", "--workspace", str(tmp_path / "none"), *more]
    done = subprocess.run(
        [sys.executable, "-m", "glorasearch", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "needs a token there" in done.stderr


def test_other_users_do_not_see_it() -> None:
    assert without_secrets(["dashboard", "--token", TOKEN, "--port", "1"]) == [
        "dashboard",
        "--token",
        "***",
        "--port",
        "1",
    ]
    assert without_secrets(["dashboard", f"--token={TOKEN}"]) == ["dashboard", "--token=***"]


def test_the_lines_of_the_documentation(url: str, tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "monitoring.md").read_text("utf-8")
    (line,) = re.findall(r"^export GLORASEARCH_DASHBOARD_TOKEN=.*", text, re.MULTILINE)
    (command,) = re.findall(r"^glorasearch dashboard (--host .*)", text, re.MULTILINE)
    shell = f'{line}; echo -n "$GLORASEARCH_DASHBOARD_TOKEN"'
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    token = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, check=True, env=os.environ | {"PATH": path}
    ).stdout
    options = (*shlex.split(command), "--workspace", str(tmp_path), "--database", url)
    with served(tmp_path, *options, GLORASEARCH_DASHBOARD_TOKEN=token) as address:
        number = int(address.rpartition(":")[2])
        assert ask(number, "/runs")[0] == 401
        assert ask(number, "/runs", Authorization=f"Bearer {token}")[0] == 200
