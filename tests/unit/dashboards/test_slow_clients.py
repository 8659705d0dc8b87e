"""Connections whose request never ends."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

from support.processes import wait_until

from dashboards import make_server
from glorasearch.db import Database


def test_a_request_that_does_not_arrive_is_given_up(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/glorasearch.db")
    with make_server(database.url, port=0) as server:
        inner: Any = server._server
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            with (
                socket.create_connection(("127.0.0.1", server.port)) as slow,
                socket.create_connection(("127.0.0.1", server.port)) as idle,
            ):
                for part in (b"POST /runs/x/note HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n", b"text"):
                    slow.sendall(part)
                wait_until(lambda: len(inner.active_channels) == 2, "both connections")
                wait_until(lambda: any(one.request for one in inner.active_channels.values()), "a part of the request")
                now = int(time.time())
                inner.maintenance(now)
                slow.sendall(b"=")  # a byte now and then does not help
                inner.maintenance(now + 59)
                assert not any(one.will_close for one in inner.active_channels.values())
                inner.maintenance(now + 61)
                inner.pull_trigger()
                assert slow.recv(1) == b""
                idle.sendall(b"GET /runs HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert idle.recv(12) == b"HTTP/1.1 200"
        finally:
            server.stop()
            thread.join()
    database.close()
