"""Who may read the dashboard, over real connections: raw requests as browsers, tools and attackers send them."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator

import pytest
from optuna.study import StudyDirection

from dashboards import make_server
from glorasearch.db import TrialStorage

PATHS = ("/dashboard", "/api/studies", "/favicon.ico", "/static/bundle.js")


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    storage = TrialStorage(f"sqlite:///{tmp_path_factory.mktemp('dashboard')}/trials.db")
    storage.create_new_study([StudyDirection.MAXIMIZE], "a search")
    url = storage.database.url.render_as_string()
    storage.database.close()
    with make_server(url, port=0, names=["Proxy.example"]) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        yield server.port
        server.stop()
        thread.join()


def ask(
    port: int, host: str | None, path: str = "/api/studies", method: str = "GET", **headers: str
) -> tuple[int, http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in ({} if host is None else {"Host": host} | headers).items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST", "[::1]:{port}", "192.0.2.7", "proxy.example:{port}",
     "proxy.example.", socket.gethostname()],
)  # fmt: skip
def test_its_own_names_and_addresses_are_answered(port: int, host: str) -> None:
    status, _, body = ask(port, host.format(port=port))
    assert status == 200
    assert json.loads(body)["study_summaries"][0]["study_name"] == "a search"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "host",
    ["attacker.example:{port}", "attacker.example", "localhost.attacker.example", "127.0.0.1.attacker.example",
     "me@127.0.0.1", "127.0.0.1:80x", "[::1]attacker.example", "[attacker.example]", "", "0x7f000001"],
)  # fmt: skip
def test_a_name_that_was_rebound_to_this_address_reads_nothing(port: int, host: str, path: str) -> None:
    status, _, body = ask(port, host.format(port=port), path)
    assert status == 403
    assert "--allow-host" in json.loads(body)["reason"]


def test_http_1_1_without_a_host_is_a_bad_request(port: int) -> None:
    assert ask(port, None)[0] == 400


@pytest.mark.parametrize("path", PATHS)
def test_requests_without_accept_encoding_are_answered_uncompressed(port: int, path: str) -> None:
    status, answer, _ = ask(port, "localhost", path)
    assert status == 200
    assert answer.getheader("Content-Encoding") is None


def test_browsers_get_it_compressed(port: int) -> None:
    status, answer, _ = ask(port, "localhost", "/static/bundle.js", Accept_Encoding="gzip, br")
    assert (status, answer.getheader("Content-Encoding")) == (200, "gzip")


@pytest.mark.parametrize(
    ("path", "method", "host", "status"),
    [*((path, "GET", "localhost", 200) for path in PATHS), ("/nothing", "GET", "localhost", 404),
     ("/api/studies", "POST", "localhost", 405), ("/api/studies", "GET", "attacker.example", 403)],
)  # fmt: skip
def test_every_answer_has_the_usual_headers(port: int, path: str, method: str, host: str, status: int) -> None:
    found, answer, _ = ask(port, host, path, method)
    assert found == status
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    assert answer.getheader("X-Frame-Options") == "DENY"
    assert answer.getheader("Referrer-Policy") == "same-origin"
    assert answer.getheader("Cross-Origin-Resource-Policy") == "same-origin"
    assert "default-src" in str(answer.getheader("Content-Security-Policy"))
    assert answer.getheader("Cache-Control")
    assert "waitress" not in str(answer.getheader("Server"))


def test_the_page_keeps_the_policy_that_its_own_scripts_need(port: int) -> None:
    assert "script-src 'self' 'unsafe-eval'" in str(
        ask(port, "localhost", "/dashboard")[1].getheader("Content-Security-Policy")
    )
