"""What a weight store on S3 says when it cannot be used."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest
import torch

from glorasearch.errors import InputError, WeightStoreError
from glorasearch.runs.workspace import Workspace
from glorasearch.weights import WeightStore


@pytest.fixture
def url(s3_bucket: str) -> str:
    return f"s3://{s3_bucket}/some/prefix"


def test_a_bucket_that_is_not_there(s3_bucket):
    store = WeightStore(f"s3://{s3_bucket}-not/prefix")
    with pytest.raises(WeightStoreError, match=rf"bucket '{s3_bucket}-not' does not exist"):
        store.check()
    with pytest.raises(WeightStoreError, match="does not exist"):
        store.put({"w": torch.ones(3)}, {})


def test_no_credentials(url, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    for act in (WeightStore(url).check, lambda: WeightStore(url).get("0" * 64)):
        with pytest.raises(
            WeightStoreError, match=r"no credentials .* set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ):
            act()


def test_refused_credentials(url, monkeypatch):
    monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0)  # from now on it asks who comes
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    for write in (True, False):
        with pytest.raises(WeightStoreError, match="refused these credentials"):
            WeightStore(url).check(write=write)


def test_nobody_answers(s3_bucket, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    with pytest.raises(
        WeightStoreError, match=rf"cannot be written \(3 attempts\).*127.0.0.1:{port}.*AWS_ENDPOINT_URL_S3"
    ):
        WeightStore(f"s3://{s3_bucket}/prefix").check()


def test_urls_that_cannot_be_used(tmp_path):
    with pytest.raises(InputError, match=r"--store nosuch://x: .*allowed are a path and fsspec's URLs"):
        Workspace.open(tmp_path, store="nosuch://x")
    assert Workspace.open(tmp_path, store="s3://bucket/x").store_url == "s3://bucket/x"
    assert Workspace.open(tmp_path).store_url == str(tmp_path / "weights")
    for call, error in (
        ("from glorasearch.runs.workspace import Workspace; Workspace.open('.', store='s3://b/p')", "InputError"),
        ("from glorasearch.weights import WeightStore; WeightStore('s3://b/p')", "WeightStoreError"),
    ):
        program = f"import sys; sys.modules['s3fs'] = None; {call}"
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert f"glorasearch.errors.{error}" in done.stderr
        assert "pip install 'glorasearch[s3]'" in done.stderr
