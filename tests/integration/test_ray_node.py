"""The node script of the Slurm launch, run for real: a head and a worker on this machine become one cluster."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.processes import DEADLINE_SECONDS, free_ports

SCRIPT = Path(__file__).resolve().parents[2] / "workers" / "launch" / "slurm" / "ray_node.sh"
COUNT_NODES = """
import sys, time
import ray

ray.init(address=sys.argv[1], log_to_driver=False)
deadline = time.monotonic() + 120
while len([node for node in ray.nodes() if node["Alive"]]) < 2 and time.monotonic() < deadline:
    time.sleep(0.1)
print(sorted(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]))
"""


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """Where the script finds what Slurm's script gives it: a port, a folder and a token of this cluster's own."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gs-", dir="/tmp", ignore_cleanup_errors=True))
        port, client_port = free_ports(2)
        yield os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "RAY_HEAD_IP": "127.0.0.1",
            "RAY_PORT": str(port),
            "RAY_TEMP": folder,
            "RAY_OPTIONS": f"--object-store-memory=100000000 --ray-client-server-port={client_port}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "OMP_NUM_THREADS": "1",
        }


def test_a_head_and_a_worker_become_one_cluster(environment: dict[str, str]) -> None:
    def start(role: str, cpus: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(SCRIPT), role],
            env=environment | {"RAY_OPTIONS": f"{environment['RAY_OPTIONS']} --num-cpus={cpus}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS
        )

    nodes = [start("head", 1)]
    try:
        waited = run("bash", str(SCRIPT), "wait")
        assert waited.returncode == 0, waited.stderr
        nodes.append(start("worker", 2))
        address = f"127.0.0.1:{environment['RAY_PORT']}"
        counted = run(sys.executable, "-c", COUNT_NODES, address)
        assert counted.stdout.strip() == "[1.0, 2.0]", counted.stderr
    finally:
        for node in reversed(nodes):
            node.send_signal(signal.SIGTERM)
            node.wait(DEADLINE_SECONDS)


def test_the_script_says_what_it_wants(environment: dict[str, str]) -> None:
    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", str(SCRIPT), *arguments]
        return subprocess.run(command, env=environment | more, capture_output=True, text=True, check=False, timeout=120)

    assert run("nurse").returncode == 2
    assert "usage: ray_node.sh head|worker|wait" in run().stderr
    nobody = run("wait", RAY_WAIT_SECONDS="1")
    assert nobody.returncode == 1
    assert f"no Ray head has answered at 127.0.0.1:{environment['RAY_PORT']} for 1 s" in nobody.stderr
