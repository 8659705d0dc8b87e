"""Searches on a cluster of three nodes, in which workers, nodes and drivers are really killed and evaluations hang."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from support import ray_burn
from support.processes import environment, is_alive, wait_until
from support.spaces import small_space, tasks_of

from glorasearch.db import TrialStorage
from glorasearch.errors import SearchError
from glorasearch.search import Executor, InProcessExecutor, SearchConfig, SearchDriver, SearchOutcome, SearchProgress
from workers import RayExecutor
from workers.cluster import connect

NODE = {"num_cpus": 2, "object_store_memory": 80 * 2**20}
QUICK_DEATH = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three nodes on this machine, which know nothing of the tests; this process has joined."""
    started = Cluster(
        initialize_head=True,
        head_node_args=NODE | {"num_cpus": 1, "include_dashboard": False, "_system_config": QUICK_DEATH},
    )
    try:
        for _ in range(2):
            started.add_node(**NODE)
        before = {name: value for name, value in os.environ.items() if "RAY" in name}
        assert connect(workers=3, gpus_per_worker=0, address=started.address).owned
        assert {name: value for name, value in os.environ.items() if "RAY" in name} == before
        yield started
    finally:
        ray.shutdown()
        started.shutdown()


def search(
    executor: Executor,
    path: Path,
    trials: int,
    on_progress: Callable[[SearchProgress], None] | None = None,
    **options: Any,
) -> tuple[SearchOutcome, list[Any]]:
    config = SearchConfig(**{"trials": trials, "population": 20, "parents": 5, "seed": 3} | options)
    storage = TrialStorage(f"sqlite:///{path}")
    driver = SearchDriver(small_space(), storage, executor, "weights", "study", config, on_progress=on_progress)
    outcome = driver.run()
    trials_there = storage.get_all_trials(storage.get_study_id_from_name("study"))
    return outcome, [
        (trial.number, trial.params, trial.values, trial.user_attrs, trial.state) for trial in trials_there
    ]


def undisturbed(spec: dict[str, Any], path: Path, trials: int, **options: Any) -> tuple[SearchOutcome, list[Any]]:
    """The same search in this process, where nothing happens."""
    here = {key: value for key, value in spec.items() if key not in ("log", "rounds")}
    return search(InProcessExecutor(ray_burn.make(here)), path, trials, **options)


def same(found: tuple[SearchOutcome, list[Any]], expected: tuple[SearchOutcome, list[Any]]) -> None:
    """Every trial recorded once, as it is in the undisturbed search, and the same winner."""
    (outcome, trials), (wanted, wanted_trials) = found, expected
    assert [number for number, *_ in trials] == list(range(len(wanted_trials)))
    assert trials == wanted_trials
    assert (outcome.best, outcome.subnet, outcome.pareto) == (wanted.best, wanted.subnet, wanted.pareto)
    assert outcome.failed == wanted.failed


def processes(log: Path) -> dict[int, str]:
    """Process → node of the workers that were built."""
    return {int(path.name.split("-")[1]): path.name.split("-")[2] for path in log.glob("built-*")}


def logged(log: Path, what: str) -> set[tuple[str, int]]:
    """(Subnet, process) of the files begun-* or ended-*."""
    return {(path.name.split("-")[1], int(path.name.split("-")[2])) for path in log.glob(f"{what}-*")}


def test_twenty_workers_killed_in_the_middle_of_evaluations(cluster: Cluster, tmp_path: Path) -> None:
    spec = {"rounds": 60_000, "failing": 10, "log": str(tmp_path)}
    due, killed = 0, 0
    lost: set[int] = set()

    def kill(progress: SearchProgress) -> None:
        nonlocal due, killed
        lost.update(one.number for one in executor.staff if not one.ready and one.tasks and one.host)
        due += progress.done % 9 == 0
        at_work = [pid for _, pid in logged(tmp_path, "begun") - logged(tmp_path, "ended") if is_alive(pid)]
        if killed < min(due, 20) and at_work:
            os.kill(at_work[0], signal.SIGKILL)
            killed += 1

    with RayExecutor("support.ray_burn:make", spec, workers=4, address=cluster.address) as executor:
        found = search(executor, tmp_path / "ray.db", 200, kill)
    assert killed == 20
    assert lost, "a lost worker keeps its host and its count while it is built again"
    assert len(processes(tmp_path)) > 20, "killed workers were replaced"
    cut_off = logged(tmp_path, "begun") - logged(tmp_path, "ended")
    assert len(cut_off) >= 10, "they were killed in the middle of evaluations"
    same(found, undisturbed(spec, tmp_path / "here.db", 200))
    assert found[0].failed > 0


def test_exceptions_and_nan_are_failed_trials_with_their_reasons(cluster: Cluster, tmp_path: Path) -> None:
    spec = {"failing": 16, "raising": 16, "nan": 16}
    with RayExecutor("support.ray_burn:make", spec, workers=2, address=cluster.address) as executor:
        found = search(executor, tmp_path / "ray.db", 100, max_failure_share=0.5)
    same(found, undisturbed(spec, tmp_path / "here.db", 100, max_failure_share=0.5))
    reasons = {attrs["reason"] for _, _, _, attrs, _ in found[1] if "reason" in attrs}
    assert reasons == {
        "this one never works",
        "RuntimeError: nobody thought of this one",
        "the mean cross-entropy is nan",
    }


def test_what_always_fails_stops_the_search_early_and_says_why(cluster: Cluster, tmp_path: Path) -> None:
    with (
        RayExecutor("support.ray_burn:make", {"raising": 256}, workers=2, address=cluster.address) as executor,
        pytest.raises(SearchError, match=r"RuntimeError: nobody thought of this one \(10 of 10 failures\)"),
    ):
        search(executor, tmp_path / "ray.db", 500, population=200)


@pytest.mark.slow
def test_a_subnet_that_kills_its_worker_is_given_up_and_the_others_are_not(cluster: Cluster) -> None:
    tasks = tasks_of(2)
    spec = {"lethal": tasks[0].subnet_digest}
    with RayExecutor("support.ray_burn:make", spec, workers=1, address=cluster.address) as executor:
        for task in tasks:
            executor.submit(task)
        results = {result.subnet_digest: result for result in (executor.next_result(), executor.next_result())}
    assert results[tasks[0].subnet_digest].error == "the worker died 3 times while evaluating this subnet"
    assert results[tasks[1].subnet_digest].error is None


def test_a_worker_that_fails_at_everything_is_replaced_and_nothing_fails(cluster: Cluster, tmp_path: Path) -> None:
    """As a GPU does whose context is lost: otherwise it would be the fastest worker, and spoil all others' share."""
    spec: dict[str, Any] = {"log": str(tmp_path)}
    expected = undisturbed(spec, tmp_path / "here.db", 40)
    spec["poison"] = [attrs["subnet"] for _, _, _, attrs, _ in expected[1][10:40:20]]
    with RayExecutor("support.ray_burn:make", spec, workers=2, address=cluster.address) as executor:
        same(search(executor, tmp_path / "ray.db", 40), expected)
    assert len(list(tmp_path.glob("poisoned-*"))) == 2
    assert len(processes(tmp_path)) >= 3


def test_an_evaluation_that_hangs_goes_to_another_worker_and_its_own_is_replaced(
    cluster: Cluster, tmp_path: Path
) -> None:
    """What hangs waits for a gate that is opened at the end only."""
    spec: dict[str, Any] = {"log": str(tmp_path)}
    expected = undisturbed(spec, tmp_path / "here.db", 60)
    hanging = [attrs["subnet"] for _, _, _, attrs, _ in expected[1][10:50:20]]
    spec["stuck_once"] = hanging
    with RayExecutor(
        "support.ray_burn:make", spec, workers=2, address=cluster.address, evaluation_timeout=1.5
    ) as executor:
        found = search(executor, tmp_path / "ray.db", 60)
        same(found, expected)
        stuck = [int((tmp_path / f"stuck-{digest}").read_text()) for digest in hanging]
        for digest, process in zip(hanging, stuck, strict=True):
            assert {pid for subnet, pid in logged(tmp_path, "ended") if subnet == digest} - {process}
            wait_until(lambda process=process: not is_alive(process))  # type: ignore[misc]
        wait_until(lambda: sum(map(is_alive, processes(tmp_path))) == 2)
        (tmp_path / "gate").touch()
        (task,) = tasks_of(1, seed=5)
        executor.submit(task)
        assert executor.next_result().subnet_digest == task.subnet_digest, "no late result comes"


@pytest.mark.slow
def test_an_evaluation_that_always_hangs_fails(cluster: Cluster, tmp_path: Path) -> None:
    tasks = tasks_of(6)
    spec = {"log": str(tmp_path), "stuck": [tasks[2].subnet_digest]}
    with RayExecutor(
        "support.ray_burn:make", spec, workers=2, address=cluster.address, evaluation_timeout=1
    ) as executor:
        for task in tasks:
            executor.submit(task)
        errors = {result.subnet_digest: result.error for result in (executor.next_result() for _ in tasks)}
    assert errors.pop(tasks[2].subnet_digest) == "no answer within 1 s, 3 times"
    assert set(errors.values()) == {None}
    assert len({pid for subnet, pid in logged(tmp_path, "begun") if subnet == tasks[2].subnet_digest}) == 3


def test_a_node_is_lost_and_another_one_joins(cluster: Cluster, tmp_path: Path) -> None:
    spec = {"rounds": 20_000, "log": str(tmp_path)}
    joined = ""

    def disturb(progress: SearchProgress) -> None:
        nonlocal joined
        if progress.done == 15:
            lost = next(node for node in reversed(cluster.list_all_nodes()) if node.node_id in occupied())
            cluster.remove_node(lost, allow_graceful=False)
            # Its workers outlive it a little, and a fast search would end before anybody misses them.
            wait_until(lambda: lost.node_id not in occupied(), "the end of the lost node's workers")
        if progress.done == 60:
            joined = cluster.add_node(**NODE).node_id
            wait_until(lambda: joined in processes(tmp_path).values())

    def occupied() -> set[str]:
        return {node for pid, node in processes(tmp_path).items() if is_alive(pid)}

    with RayExecutor("support.ray_burn:make", spec, workers=5, address=cluster.address) as executor:
        wait_until(lambda: len(processes(tmp_path)) == 5)
        assert len(occupied()) == 3
        found = search(executor, tmp_path / "ray.db", 140, disturb)
        assert len(ray.nodes()) == 4
        wait_until(lambda: sum(node["Alive"] for node in ray.nodes()) == 3, "Ray to miss the lost node")
    by_node = [processes(tmp_path)[pid] for _, pid in logged(tmp_path, "ended")]
    assert by_node.count(joined) > 0, "the new node took part"
    same(found, undisturbed(spec, tmp_path / "here.db", 140))


DRIVER = """
import sys
from workers import RayExecutor
executor = RayExecutor("support.ray_burn:make", {"log": sys.argv[2]}, workers=2, address=sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_driver_that_is_killed_leaves_no_worker_behind_and_the_cluster_as_it_was(
    cluster: Cluster, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", DRIVER, cluster.address, str(tmp_path)]
    with subprocess.Popen(
        command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "ready\n"
        wait_until(lambda: len(processes(tmp_path)) == 2)
        assert all(map(is_alive, processes(tmp_path)))
        driver.kill()
    wait_until(lambda: not any(map(is_alive, processes(tmp_path))))
    wait_until(lambda: ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"])
