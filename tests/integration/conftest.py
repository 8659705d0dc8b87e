"""Tiny runs in their own workspaces, the command line in this process, and an S3 service."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.labelled import write_labelled
from support.numbers import write_numbers
from support.runs import RUN_FILE, Bench

from glorasearch.cli.main import run as command_line


@pytest.fixture(scope="session")
def tiny_run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that takes seconds: a random vision transformer, digits."""
    path = tmp_path_factory.mktemp("run-file") / "tiny.toml"
    path.write_text(RUN_FILE)
    return path


@pytest.fixture(scope="session")
def make_bench(tiny_run_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Bench]]:
    """Makes workspaces of their own for the tiny run; no process outlives the tests."""
    made: list[Bench] = []

    def make(*overrides: str, workspace: Path | None = None, server_url: str = "") -> Bench:
        place = tmp_path_factory.mktemp("workspace") if workspace is None else workspace
        made.append(Bench(place, tiny_run_file, overrides, server_url))
        return made[-1]

    yield make
    for bench in made:
        bench.end_all()


@pytest.fixture(scope="session")
def undisturbed(make_bench: Callable[..., Bench]) -> Bench:
    """The tiny run, finished by one process; not to be changed by any test."""
    bench = make_bench()
    bench.finish()
    return bench


@pytest.fixture(scope="session", params=["regress", "multilabel"])
def of_task(
    request: pytest.FixtureRequest, make_bench: Callable[..., Bench], tmp_path_factory: pytest.TempPathFactory
) -> Bench:
    """A finished run that says numbers of an image, and one that says several labels, each after a race."""
    folder = tmp_path_factory.mktemp(request.param)
    path = write_numbers(folder, 240) if request.param == "regress" else write_labelled(folder, 240)
    bench = make_bench(
        f"data.source=csv:{path}", f"data.task={request.param}", "data.train=120", "data.search=60", "data.test=60",
        "space.name=lora", "train.steps=30", "train.lr=1e-2", "race.enabled=true", "race.rates=[1e-3, 1e-2]",
        "race.steps=20", "race.folds=3", "race.rungs=[1]", "race.keep=2", "refit.teachers=0", "refit.steps=60",
        'report.baselines=["linear_probe"]', "report.steps=20", "report.random_subnets=0",
    )  # fmt: skip
    bench.finish()
    return bench


@pytest.fixture
def copied(make_bench: Callable[..., Bench], undisturbed: Bench, tmp_path: Path) -> Bench:
    """The finished run in a workspace that a test may change."""
    shutil.copytree(undisturbed.workspace, tmp_path / "workspace")
    return make_bench(workspace=tmp_path / "workspace")


@pytest.fixture(scope="session")
def make_copy(make_bench: Callable[..., Bench], tmp_path_factory: pytest.TempPathFactory) -> Callable[[Bench], Bench]:
    """Copies a workspace with what is in it: two runs go on from there, and differ in nothing that was before."""

    def make(bench: Bench) -> Bench:
        place = tmp_path_factory.mktemp("copy") / "workspace"
        shutil.copytree(bench.workspace, place)
        return make_bench(*bench.overrides, workspace=place)

    return make


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Calls the command line in this process; gives exit code, standard output and standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        code = command_line(list(arguments))
        written = capsys.readouterr()
        return code, written.out, written.err

    return call


@pytest.fixture(scope="session")
def s3_server() -> Iterator[tuple[str, int]]:
    """Host and port of an S3 service on loopback."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture
def s3(s3_server: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of the service; the environment names it, and gives credentials."""
    import boto3
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://{}:{}".format(*s3_server))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    yield boto3.client("s3")
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def s3_bucket(s3: Any) -> str:
    """A fresh bucket."""
    name = f"bucket-{os.urandom(6).hex()}"
    s3.create_bucket(Bucket=name)
    return name
