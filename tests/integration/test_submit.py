"""Ray Jobs for real: a cluster of this machine is sent a run, followed, left, asked, stopped, and sent it again."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.processes import DEADLINE_SECONDS, free_ports, wait_until
from support.programs import Program

from glorasearch.cli.main import run as command_line
from glorasearch.db import RunState, RunStore
from glorasearch.weights import WeightStore

Bench = Any
MakeBench = Callable[..., Bench]
REPOSITORY = Path(__file__).resolve().parents[2]
CLUSTER_PAGE = (REPOSITORY / "docs" / "cluster.md").read_text("utf-8")
METHODS_PAGE = (REPOSITORY / "docs" / "methods.md").read_text("utf-8")
PLUGIN = METHODS_PAGE.split("## Add a choice of your own\n", 1)[1].split("\n## ", 1)[0]
SHORT = ("train.steps=12", "refit.steps=0", "report.baselines=[]", "search.trials=250", "search.early_stopping=false")


@dataclass(frozen=True)
class Head:
    """The head node of a Ray cluster that wants a token."""

    address: str
    environment: dict[str, str]
    """Of who may use it."""

    def start(self, folder: Path, *arguments: str) -> Program:
        """A process of glorasearch; its output goes to `out` and `err` in the folder."""
        return Program([*arguments, "--address", self.address], folder / "out", folder / "err", self.environment)


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A cluster of one node, with four CPU slots, ports of its own and a token of its own."""
    port, dashboard, agent, agent_grpc, client = free_ports(5)
    environment = {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with tempfile.TemporaryDirectory(prefix="gs-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        command = {
            "port": port,
            "node-ip-address": "127.0.0.1",
            "dashboard-host": "127.0.0.1",
            "dashboard-port": dashboard,
            "dashboard-agent-listen-port": agent,
            "dashboard-agent-grpc-port": agent_grpc,
            "ray-client-server-port": client,
            "temp-dir": folder,  # a short one: it holds the paths of sockets
            "num-cpus": 4,
            "object-store-memory": 100 * 2**20,
        }
        process = subprocess.Popen(
            [Path(sys.executable).with_name("ray"), "start", "--head", "--block"]
            + [f"--{name}={value}" for name, value in command.items()],
            stdout=(Path(folder) / "head.log").open("w"),
            stderr=subprocess.STDOUT,
            env=os.environ
            | environment
            | {
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": str(REPOSITORY),
                "RAY_AUTH_MODE": "token",
                "RAY_USAGE_STATS_ENABLED": "0",
                "OMP_NUM_THREADS": "1",
            },
        )
        try:
            found = Head(f"http://127.0.0.1:{dashboard}", environment)
            wait_until(lambda: process.poll() is not None or _answers(found), "the dashboard")
            assert process.poll() is None, (Path(folder) / "head.log").read_text()
            yield found
        finally:
            process.terminate()
            process.wait(DEADLINE_SECONDS)


def _answers(head: Head) -> bool:
    request = urllib.request.Request(
        f"{head.address}/api/version", headers={"Authorization": f"Bearer {head.environment['RAY_AUTH_TOKEN']}"}
    )
    try:
        urllib.request.urlopen(request, timeout=5).close()
    except OSError:
        return False
    return True


@pytest.fixture
def as_user(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process may use the cluster; Ray's own variable names another one, which must not count."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", head.environment["RAY_AUTH_TOKEN"])
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")


@pytest.fixture(scope="module")
def folder(tiny_run_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run file beside a search space of its own with a plugin of its own: the documentation's."""
    place = tmp_path_factory.mktemp("submitted")
    for language, name in (("python", "vera.py"), ("toml", "vera.toml")):
        (block,) = re.findall(rf"^```{language}\n(.*?)^```", PLUGIN, re.MULTILINE | re.DOTALL)
        (place / name).write_text(block)
    space = (place / "vera.toml").read_text().replace("vera:16", "vera:2").replace("vera:64", "vera:4")
    (place / "vera.toml").write_text(space)
    (place / "tiny.toml").write_text(tiny_run_file.read_text().replace('"glora_medium"', '"vera.toml"'))
    return place


def test_a_run_is_sent_left_asked_stopped_and_sent_again(
    head: Head,
    as_user: None,
    folder: Path,
    make_bench: MakeBench,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def said(name: str) -> str:
        path = tmp_path / name
        return path.read_text() if path.exists() else ""

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]))
    here, there = make_bench(*SHORT), make_bench(*SHORT)
    here.run_file = there.run_file = folder / "tiny.toml"
    to = ("--address", head.address)

    # sent, followed, and left by Ctrl+C: the job goes on
    sent = there.arguments("submit", "--workers", "1", "--gpus-per-worker", "0")
    follower = head.start(tmp_path, *sent)
    wait_until(lambda: "Running entrypoint" in said("out") or follower.poll() is not None, "the job's log")
    follower.send_signal(signal.SIGINT)
    assert follower.wait(DEADLINE_SECONDS) == 130, said("err")
    assert f"continues without you. Follow it: glorasearch status tiny --address {head.address} --follow" in said("err")
    assert "module vera is sent along" in said("err")
    assert "Traceback" not in said("err")

    # a second one of its name is refused
    assert head.start(tmp_path, *sent).wait(DEADLINE_SECONDS) == 1
    assert "run 'tiny' is being worked on by job glorasearch-tiny-" in said("err")

    # stopped in the middle of the search, cleanly
    assert command_line(["status", *to]) == 0  # and Ray imported here, so that stopping takes no time
    wait_until(lambda: there.trials() >= 5, "the search")
    assert command_line(["stop", "tiny", *to]) == 0
    assert "stopped; submit the run again" in capsys.readouterr().out
    assert 5 <= there.trials() < 250
    assert (there.record.state, there.record.error, there.record.owner) == (RunState.STOPPED, None, None)
    assert command_line(["stop", "tiny", *to]) == 1
    assert "has no job at work" in capsys.readouterr().err
    assert command_line(["status", "tiny", *to]) == 0
    status = capsys.readouterr().out
    assert "stopped" in status
    assert "terminated; run the same command again to resume" in status

    # sent again, it goes on and ends as one that nobody disturbed
    assert head.start(tmp_path, *sent, "--detach", "--json").wait(DEADLINE_SECONDS) == 0, said("err")
    assert json.loads(said("out"))["run"] == "tiny"
    assert command_line(["status", "tiny", "--follow", *to]) == 0
    assert "search: resumes at trial" in capsys.readouterr().out
    here.finish()
    expected, found = here.outcome(), there.outcome()
    for part in ("trials", "evaluations", "weights"):
        assert found[part] == expected[part], part
    assert found["export"]["model.safetensors"] == expected["export"]["model.safetensors"]

    assert command_line(["status", "--json", *to]) == 0
    rows = {row["run"]: row for row in json.loads(capsys.readouterr().out)}
    row = rows["tiny"]
    assert (row["run"], row["state"], row["workspace"]) == ("tiny", "SUCCEEDED", str(there.workspace))


def test_a_job_that_fails_is_exit_1_and_no_password_is_listed(
    head: Head, as_user: None, tiny_run_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    to = ("--address", head.address)
    database = "postgresql+psycopg://somebody:secret-word@127.0.0.1:1/none"
    place = ("--workspace", str(tmp_path), "--database", database, "--set", "name=fails")

    assert command_line(["submit", str(tiny_run_file), *place, *to, "--json"]) == 1

    out, err = capfd.readouterr()
    row = json.loads(out)
    assert row["state"] == "FAILED"
    assert "error:" in err  # the log, which goes there with --json
    assert "the credentials of postgresql+psycopg://somebody:***@127.0.0.1:1/none go with the job" in err
    assert "secret-word" not in out + err
    assert command_line(["status", "fails", *to]) == 0
    assert "failed (Job entrypoint command failed with exit code 1" in capfd.readouterr().out


def test_what_is_not_there_is_said(
    head: Head, as_user: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert command_line(["status", "nobody", "--address", head.address]) == 2
    assert f"no job of run 'nobody' on {head.address}; known are: " in capsys.readouterr().err
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    assert command_line(["status", "--address", head.address]) == 1
    assert f"requires a token, and there is none in RAY_AUTH_TOKEN or {tmp_path / 'none'}" in capsys.readouterr().err
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    assert command_line(["status", "--address", head.address]) == 1
    assert "did not open its job API" in capsys.readouterr().err


def documented_commands() -> list[list[str]]:
    """The commands of the documentation that need a cluster, as words."""
    lines = "\n".join(re.findall(r"^```sh\n(.*?)^```", CLUSTER_PAGE, re.MULTILINE | re.DOTALL)).splitlines()
    return [shlex.split(line) for line in lines if "http://head:8265" in line]


def test_the_commands_of_the_documentation(
    head: Head,
    as_user: None,
    tiny_run_file: Path,
    tmp_path: Path,
    postgresql_url: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Sent, asked for and stopped as the documentation says, with a run of its own and the places of this machine."""
    make_flowers(tmp_path / "data" / "flowers")
    content = tiny_run_file.read_text().replace('name = "tiny"', 'name = "flowers"')
    run_file = tmp_path / "flowers.toml"
    run_file.write_text(
        content.replace('"digits"', '"folder:./flowers"').replace("train = 200\nsearch = 100\ntest = 200\n", "")
    )
    here = {
        "http://head:8265": head.address,
        "folder:/data": f"folder:{tmp_path / 'data'}",
        "postgresql+psycopg://glorasearch@db/glorasearch": postgresql_url,
        "s3://bucket/flowers": str(tmp_path / "store"),
        "flowers.toml": str(run_file),
    }

    def local(word: str) -> str:
        for there, place in here.items():
            word = word.replace(there, place)
        return word

    submit, status, stop = ([local(word) for word in command[1:]] for command in documented_commands())
    assert (submit[0], status[0], stop[0]) == ("submit", "status", "stop")
    smaller = {"32": "1", "0.25": "0"}  # workers, and GPUs of each
    submit = [smaller.get(word, word) for word in submit]
    short = [part for value in ("train.steps=12", "refit.steps=6", "search.trials=32") for part in ("--set", value)]
    assert command_line([*submit, "--workspace", str(tmp_path / "workspace"), *short]) == 0, capsys.readouterr()
    capsys.readouterr()
    assert command_line(status) == 0
    assert "succeeded" in capsys.readouterr().out
    assert command_line(stop) == 1  # it has ended
    assert "has no job at work" in capsys.readouterr().err
    run = RunStore(postgresql_url).get("flowers")
    assert run is not None
    assert (run.state, run.config["data"]["source"]) == (RunState.FINISHED, f"folder:{tmp_path / 'data' / 'flowers'}")
    assert set(WeightStore(str(tmp_path / "store")).digests()) >= {run.stages["refit"]["weights"]}
    assert not (tmp_path / "workspace" / "glorasearch.db").exists()


def make_flowers(folder: Path) -> None:
    """Noise of a class's own colour."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(("daisy", "rose", "tulip")):
        (folder / name).mkdir(parents=True)
        for image in range(30):
            pixels = rng.integers(0, 80, (28, 28, 3)) + np.array([60 * number, 120, 40])
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{image}.png")
