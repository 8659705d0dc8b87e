"""A proxy that cuts a client's connections to a PostgreSQL server."""

import itertools
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class Cutter:
    """A proxy before a PostgreSQL server that cuts connections at chosen messages of their clients."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.commits = itertools.count(1)
        self.messages = itertools.count(1)
        self.cuts = 0
        self.choose_commit: Callable[[int], str] = lambda number: ""
        self.choose_message: Callable[[int], bool] = lambda number: False
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            server.connect(self._server)
            muted = threading.Event()
            answers = threading.Thread(target=self._answers, args=(server, client, muted), daemon=True)
            answers.start()
            self._requests(client, server, muted)
            if muted.is_set():
                answers.join()
            for side in (client, server):
                side.shutdown(socket.SHUT_RDWR)

    def _requests(self, client: socket.socket, server: socket.socket, muted: threading.Event) -> None:
        stream = client.makefile("rb")
        (length,) = struct.unpack("!i", _exactly(stream, 4))
        server.sendall(struct.pack("!i", length) + _exactly(stream, length - 4))
        while True:
            head = _exactly(stream, 5)
            body = _exactly(stream, struct.unpack("!i", head[1:])[0] - 4)
            how = self.choose_commit(next(self.commits)) if head[:1] == b"Q" and body == b"COMMIT\0" else ""
            self.cuts += bool(how)
            if how == "before":
                return
            if how == "after":
                muted.set()
            server.sendall(head + body)
            if how:
                return
            if self.choose_message(next(self.messages)):
                self.cuts += 1
                return

    @staticmethod
    def _answers(server: socket.socket, client: socket.socket, muted: threading.Event) -> None:
        with suppress(OSError):
            while (answer := server.recv(65536)) and not muted.is_set():
                client.sendall(answer)
            if not muted.is_set():
                client.shutdown(socket.SHUT_RDWR)


def _exactly(stream: Any, count: int) -> bytes:
    found = bytes(stream.read(count))
    if len(found) < count:
        raise ConnectionError("the client has gone")
    return found
