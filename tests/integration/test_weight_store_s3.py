"""The weight store on an S3 endpoint on loopback, behind a line that can be cut, held or turned away."""

from __future__ import annotations

import json
import logging
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import s3fs
import torch
from support.processes import command, environment, run_script, wait_until

from glorasearch.errors import WeightsCorruptError, WeightsNotFoundError, WeightStoreError
from glorasearch.weights import NodeCache, WeightStore

MIB = 1 << 20
OVERLOADED = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class Line:
    """A TCP proxy to a server that can be held or cut, or answer that the server is overloaded."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.server = server
        self.cut_after = 0, 0
        """Bytes to the server, and from it, after which every connection is reset; 0 for never."""
        self.hold_after: int | None = None
        """Bytes to the server, of all connections together, after which nothing passes."""
        self.overloaded = False
        self.free = threading.Event()
        self.up = self.down = self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def mend(self) -> None:
        self.cut_after, self.hold_after = (0, 0), None
        self.overloaded = False
        self.free.set()

    def close(self) -> None:
        self.mend()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.overloaded:
                threading.Thread(target=self._turn_away, args=(client,), daemon=True).start()
                continue
            server = socket.create_connection(self.server)
            for source, target, up in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass, args=(source, target, up), daemon=True).start()

    def _turn_away(self, client: socket.socket) -> None:
        with client:
            client.recv(65536)
            head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Length: {len(OVERLOADED)}\r\nConnection: close"
            client.sendall(head.encode() + b"\r\n\r\n" + OVERLOADED)

    def _pass(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(65536):
                if up and self.hold_after is not None and self.up >= self.hold_after:
                    self.free.wait()
                target.sendall(data)
                passed += len(data)
                self.up, self.down = self.up + len(data) * up, self.down + len(data) * (not up)
                if 0 < self.cut_after[not up] <= passed:
                    self.cuts += 1
                    for end in (source, target):
                        # A reset, without a good-bye.
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    break
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        target.close()


class When(logging.Handler):
    """Does something as soon as a line of the log holds all of some texts."""

    def __init__(self, texts: tuple[str, ...], then: Callable[[], None]) -> None:
        super().__init__()
        self.texts, self.then, self.seen = texts, then, False

    def emit(self, record: logging.LogRecord) -> None:
        if all(text in record.getMessage() for text in self.texts):
            self.seen = True
            self.then()


@pytest.fixture
def said() -> Iterator[Callable[..., None]]:
    """Act on a line of the log, which must come in the course of the test."""
    handlers: list[When] = []
    log = logging.getLogger("glorasearch.weights.files")

    def act(*texts: str, then: Callable[[], None]) -> None:
        handlers.append(When(texts, then))
        log.addHandler(handlers[-1])

    yield act
    for handler in handlers:
        log.removeHandler(handler)
        assert handler.seen, handler.texts


@pytest.fixture
def line(s3_server: tuple[str, int]) -> Iterator[Line]:
    made = Line(s3_server)
    yield made
    made.close()


@pytest.fixture
def url(line: Line, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a store in a fresh bucket, reached through the line."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", line.url)
    return f"s3://{s3_bucket}/some/prefix"


def weights(count: int = 4 * MIB // 4) -> dict[str, torch.Tensor]:
    return {"w": torch.arange(count, dtype=torch.float32), "odd": torch.arange(3)}


def keys(s3: Any, bucket: str) -> list[str]:
    return [item["Key"] for item in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_put_get_list(url, s3, s3_bucket):
    store = WeightStore(url)
    store.check()
    assert keys(s3, s3_bucket) == ["some/prefix/.glorasearch"]
    assert store.digests() == []
    digest = store.put(weights(), {"run": "r"})
    assert store.put(weights(), {"run": "r"}) == digest
    assert digest in store
    assert store.digests() == [digest]
    stored = store.get(digest)
    assert stored.manifest["run"] == "r"
    assert torch.equal(stored.tensors["w"], weights()["w"])
    store.check(write=False)


def test_processes_read_at_once_and_a_node_cache_fetches_once(url, line, tmp_path):
    digest = WeightStore(url).put({"w": torch.arange(MIB, dtype=torch.float32)}, {})
    total = float(sum(range(MIB)))
    line.down = 0
    assert json.loads(run_script("s3_processes", "read", url, digest)) == [total] * 4
    assert line.down > 4 * 4 * MIB
    line.down = 0
    assert json.loads(run_script("s3_processes", "cache", url, digest, str(tmp_path))) == [total] * 4
    assert 4 * MIB < line.down < 6 * MIB


def test_an_upload_in_parts_that_is_killed_leaves_nothing_visible(url, line, s3, s3_bucket, tmp_path):
    size = 104 * MIB
    line.hold_after = 60 * MIB
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen(command("s3_processes", "put", url, str(size)), env=environment(), stdout=out)
        try:
            wait_until(lambda: line.up >= 60 * MIB or process.poll() is not None)
            assert process.poll() is None
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    line.mend()
    assert len(s3.list_multipart_uploads(Bucket=s3_bucket)["Uploads"]) == 1
    store = WeightStore(url)
    assert store.digests() == []
    assert not [key for key in keys(s3, s3_bucket) if "safetensors" in key]
    digest = run_script("s3_processes", "put", url, str(size)).strip()
    assert store.digests() == [digest]
    store.verify(digest)


def test_a_connection_cut_in_an_upload_is_tried_again(url, line, said):
    store = WeightStore(url)
    line.cut_after = MIB, 0
    said("cannot be written", "attempt 3 of 6", then=line.mend)
    digest = store.put(weights(), {})
    assert line.cuts > 1
    store.verify(digest)


def test_a_connection_cut_in_a_download_is_tried_again(url, line, said, tmp_path):
    store = WeightStore(url)
    digest = store.put(weights(), {})
    line.cut_after = 0, MIB
    said("cannot be read", "attempt 3 of 6", then=line.mend)
    assert torch.equal(NodeCache(tmp_path).get(store, digest).tensors["w"], weights()["w"])
    assert line.cuts > 1


def test_a_connection_cut_for_good_is_an_error_and_the_next_put_succeeds(url, line, monkeypatch):
    monkeypatch.setattr("glorasearch.weights.files._FIRST_PAUSE_SECONDS", 0.01)
    store = WeightStore(url)
    line.cut_after = MIB, 0
    with pytest.raises(WeightStoreError, match=r"cannot be written \(6 attempts\)"):
        store.put(weights(), {})
    line.mend()
    assert store.digests() == []
    store.verify(store.put(weights(), {}))


def test_a_server_that_is_overloaded_for_a_while(url, line, said):
    store = WeightStore(url)
    digest = store.put(weights(), {})
    s3fs.S3FileSystem.clear_instance_cache()
    line.overloaded = True
    said("cannot be read", "reduce your request rate", "attempt 3 of 6", then=line.mend)
    assert torch.equal(WeightStore(url).get(digest).tensors["w"], weights()["w"])
    assert not line.overloaded


def test_an_altered_object_is_named(url, s3, s3_bucket, tmp_path):
    store = WeightStore(url)
    digest = store.put(weights(), {})
    key = f"some/prefix/{digest}/weights.safetensors"
    content = bytearray(s3.get_object(Bucket=s3_bucket, Key=key)["Body"].read())
    content[-3] ^= 1
    s3.put_object(Bucket=s3_bucket, Key=key, Body=bytes(content))
    named = rf"{key}: altered: tensor 'odd': expected checksum [0-9a-f]{{64}}, found [0-9a-f]{{64}}; delete"
    for read in (store.get, lambda digest: NodeCache(tmp_path).get(store, digest)):
        with pytest.raises(WeightsCorruptError, match=named):
            read(digest)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
    s3.delete_object(Bucket=s3_bucket, Key=key)
    with pytest.raises(WeightsCorruptError, match=f"{key}: missing, though its manifest is there"):
        store.get(digest)
    with pytest.raises(WeightsNotFoundError, match="it holds 1 weight sets, such as"):
        store.get("0" * 64)
