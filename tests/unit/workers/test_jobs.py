"""Addresses that are no Ray dashboard: each is said, without waiting long."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from glorasearch.errors import InputError, RunError
from workers.jobs import RunJobs, _Tail


class Dashboard(BaseHTTPRequestHandler):
    """Something that listens, and answers in its own way."""

    answer: tuple[int, str] = (404, "")

    def do_GET(self) -> None:
        code, text = self.answer
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Dashboard) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


@pytest.mark.parametrize("address", ["auto", "ray://head:10001", "http://", "http://a b"])
def test_what_is_no_address_of_a_dashboard_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="http://head:8265"):
        RunJobs(address)


def test_where_nothing_listens(server: str) -> None:
    with pytest.raises(RunError, match=r"no Ray dashboard can be reached at http://127.0.0.1:1 "):
        RunJobs("127.0.0.1:1/")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((404, ""), "is no Ray dashboard"),
        ((200, "hello"), "did not open its job API"),
        ((500, "broken"), "did not open its job API"),
        ((200, json.dumps({"ray_version": "1.13.0"})), r"Ray version 1\.13\.0 is running on the cluster"),
    ],
)
def test_something_else_or_something_old_listens(
    server: str, answer: tuple[int, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dashboard, "answer", answer)
    with pytest.raises(RunError, match=message):
        RunJobs(server)


def test_a_log_that_is_read_again_is_written_once() -> None:
    async def parts(*texts: str, breaks: bool = False) -> AsyncIterator[str]:
        for text in texts:
            yield text
        if breaks:
            raise RuntimeError("the connection broke")

    written: list[str] = []
    tail = _Tail(written.append)
    with pytest.raises(RuntimeError):
        asyncio.run(tail.read(parts("one\n", "two\n", breaks=True)))
    asyncio.run(tail.read(parts("on", "e\ntwo\nthr", "ee\n")))
    asyncio.run(tail.read(parts("one\ntwo\nthree\n")))

    assert "".join(written) == "one\ntwo\nthree\n"
