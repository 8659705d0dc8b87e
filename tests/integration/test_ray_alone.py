"""A Ray that is started here: closed to everybody else, started again when it dies, and patient with its builds."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster
from support.processes import environment, is_alive, wait_until
from support.spaces import tasks_of

from glorasearch.errors import RunError
from workers import RayExecutor
from workers.cluster import connect
from workers.connection import LostRayError
from workers.tasks import run_tasks

STRANGER = """
import sys
import ray
from ray._raylet import GcsClient
try:
    GcsClient(address=sys.argv[1])
except Exception as error:
    print(type(error).__name__)
else:
    print("let in")
"""


def processes_of_ray() -> dict[int, str]:
    """Name by process id of what this process has started."""
    return {child.pid: child.name() for child in psutil.Process().children(recursive=True) if is_alive(child.pid)}


def kill(name: str) -> None:
    """Kill the process of that name which descends from this one."""
    (found,) = [pid for pid, called in processes_of_ray().items() if called.startswith(name)]
    os.kill(found, signal.SIGKILL)
    wait_until(lambda: not is_alive(found), f"the end of {name}")


def stop(name: str) -> int:
    """Stop the process of that name, which keeps its ports and answers nothing."""
    (found,) = [pid for pid, called in processes_of_ray().items() if called.startswith(name)]
    os.kill(found, signal.SIGSTOP)
    return found


def test_it_listens_on_loopback_only_and_knows_nobody_but_us() -> None:
    before = {name: value for name, value in os.environ.items() if name.startswith("RAY_")}
    connection = connect(workers=2, gpus_per_worker=0, address=None)
    try:
        assert dict(zip("ab", (ray.get(ray.put(value)) for value in (1, 2)), strict=True)) == {"a": 1, "b": 2}
        ours = {*processes_of_ray(), os.getpid()}
        listening = [
            each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN and each.pid in ours
        ]
        assert len(listening) > 4
        assert {each.laddr.ip.removeprefix("::ffff:") for each in listening} == {"127.0.0.1"}
        token = os.environ["RAY_AUTH_TOKEN"]
        assert len(token) == 64
        assert not [pid for pid in ours if any(token in part for part in psutil.Process(pid).cmdline())]
        address = ray.get_runtime_context().gcs_address
        stranger = {name: value for name, value in environment().items() if not name.startswith("RAY_")}
        for mode, wanted in (({}, "AuthenticationError"), ({"RAY_AUTH_TOKEN": token}, "let in")):
            done = subprocess.run(
                [sys.executable, "-c", STRANGER, address],
                env=stranger | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "guessed"} | mode,
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert done.stdout.strip() == wanted
    finally:
        connection.close()
    assert {name: value for name, value in os.environ.items() if name.startswith("RAY_AUTH")} == {
        name: value for name, value in before.items() if name.startswith("RAY_AUTH")
    }


@pytest.mark.parametrize(
    "name", ["raylet", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gcs_server", "ray::DashboardAgent"))]
)
def test_a_ray_that_dies_is_started_again_once(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One candidate waits for ever at its first attempt, so that the death is in the middle of it."""
    tasks = tasks_of(24)
    spec = {"log": str(tmp_path), "stuck_once": [tasks[8].subnet_digest]}
    with RayExecutor("support.ray_burn:make", spec, workers=2) as executor:
        for task in tasks:
            executor.submit(task)
        answered = [executor.next_result() for _ in range(3)]
        while not list(tmp_path.glob("stuck-*")):
            answered.append(executor.next_result())
        kill(name)
        answered += [executor.next_result() for _ in range(len(tasks) - len(answered))]
        assert {result.subnet_digest for result in answered} == {task.subnet_digest for task in tasks}
        assert not any(result.error for result in answered)
        assert "the Ray that was started on this machine has died" in caplog.text
        assert "started again by itself, for this once" in caplog.text
        if name == "raylet":
            (tmp_path / f"stuck-{tasks[8].subnet_digest}").unlink()
            executor.submit(tasks[8])
            kill(name)
            with pytest.raises(RunError, match=r"has died \(its node process \(raylet\) is gone.*it goes on where"):
                executor.next_result()
    assert not ray.is_initialized()


def test_a_ray_that_listens_and_does_not_answer_is_noticed_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its processes are stopped, not killed: their ports stay open."""
    for name in ("period_ms", "timeout_ms"):
        monkeypatch.setenv(f"RAY_health_check_{name}", "300")
    monkeypatch.setattr("workers.connection._ANSWER_SECONDS", 1.0)
    connection = connect(workers=1, gpus_per_worker=0, address=None)
    try:
        head = stop("gcs_server")
        connection.check()  # it may only be busy
        with monkeypatch.context() as patch:
            patch.setattr("workers.connection.SILENT_SECONDS", 0.0)
            with pytest.raises(LostRayError, match=r"its head process \(gcs_server\) has not answered"):
                connection.check()
        os.kill(head, signal.SIGCONT)
        wait_until(lambda: connection.missing() == [])
        stop("raylet")
        wait_until(lambda: connection.missing() != [])
        with pytest.raises(LostRayError, match=r"its node process \(raylet\) does not answer its head any more"):
            connection.check()
    finally:
        connection.close()
    assert not [name for name in processes_of_ray().values() if name in ("raylet", "gcs_server")]


def test_tasks_of_a_ray_that_dies_are_started_again(tmp_path: Path) -> None:
    arguments = {name: {"path": str(tmp_path / name)} for name in "ab"}
    found = dict(run_tasks("support.ray_burn:twice", arguments, parallel=2, on_start=_killer(tmp_path)))
    assert found == {"a": "second", "b": "second"}


def _killer(folder: Path) -> Callable[[str], None]:
    """Kills the raylet once both tasks have begun."""

    def kill_when_begun() -> None:
        wait_until(lambda: {path.name for path in folder.iterdir()} >= {"a", "b"})
        kill("raylet")

    threads = iter([threading.Thread(target=kill_when_begun)])

    def on_start(name: str) -> None:
        if name == "b" and (thread := next(threads, None)) is not None:
            thread.start()

    return on_start


@pytest.fixture
def killing(tmp_path: Path) -> Iterator[Callable[[int], None]]:
    """Kills every worker as soon as it builds, that many times in all."""
    threads: list[threading.Thread] = []

    def kill_builders(times: int) -> None:
        seen: set[str] = set()

        def work() -> None:
            while len(seen) < times:
                wait_until(lambda: bool({path.name for path in tmp_path.glob("builds-*")} - seen))
                for name in sorted({path.name for path in tmp_path.glob("builds-*")} - seen)[: times - len(seen)]:
                    seen.add(name)
                    os.kill(int(name.partition("-")[2]), signal.SIGKILL)
            (tmp_path / "gate").touch()

        threads.append(threading.Thread(target=work))
        threads[0].start()

    yield kill_builders
    for thread in threads:
        thread.join()


def test_ten_workers_killed_while_they_are_built_cost_time_and_nothing_else(
    killing: Callable[[int], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    killing(10)
    with RayExecutor("support.ray_burn:slow_to_build", {"log": str(tmp_path)}, workers=3) as executor:
        tasks = tasks_of(12)
        for task in tasks:
            executor.submit(task)
        assert all(executor.next_result().error is None for _ in tasks)
    assert len(list(tmp_path.glob("builds-*"))) >= 11
    assert "is built again in 0.5 s" in caplog.text
    assert "is built again in 2 s" in caplog.text


def test_a_cluster_of_others_that_is_gone_is_said_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        connection = connect(workers=1, gpus_per_worker=0, address=cluster.address)
        connection.check()
        cluster.head_node.kill_raylet()
        wait_until(lambda: connection.missing() != [])
        connection.check()  # it may come back
        monkeypatch.setattr("workers.connection.GRACE_SECONDS", 0.0)
        with pytest.raises(LostRayError, match=r"the Ray cluster has died \(its node process \(raylet\) is gone"):
            connection.check()
        assert not connection.restart()
    finally:
        connection.close()
        cluster.shutdown()


@pytest.fixture(autouse=True)
def warnings_are_seen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
