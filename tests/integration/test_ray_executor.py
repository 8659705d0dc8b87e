"""Ray actors that are fast and slow, factories that really fail, and a cluster that is nobody's to change."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import wait_until
from support.spaces import tasks_of

from glorasearch.errors import InputError, RunError
from workers import RayExecutor
from workers.actor import EvaluatorActor, Location
from workers.cluster import check_room, connect


@pytest.fixture(scope="module", autouse=True)
def shared_ray() -> Iterator[None]:
    """One Ray for all, as starting one takes seconds."""
    connection = connect(workers=3, gpus_per_worker=0, address=None)
    yield
    connection.close()


def logged(log: Path, what: str) -> list[tuple[str, str]]:
    """(Subnet, process) of the files begun-* or ended-*."""
    return [(path.name.split("-")[1], path.name.split("-")[2]) for path in log.glob(f"{what}-*")]


def test_tasks_behind_a_slow_worker_are_taken_by_those_who_have_nothing_to_do(tmp_path: Path) -> None:
    """One of three workers waits until the gate opens, with one task begun and another one waiting behind it."""
    tasks, more = tasks_of(40)[:30], tasks_of(40)[30:]
    spec = {"rounds": 2_000, "log": str(tmp_path), "one_slow": True}
    with RayExecutor("support.ray_burn:make", spec, workers=3) as executor:
        assert executor.capacity == 6
        while executor.status:
            executor._step()
        for task in tasks:
            executor.submit(task)
        results = [executor.next_result() for _ in range(29)]
        slow = (tmp_path / "slow").read_text()
        begun = logged(tmp_path, "begun")
        assert [process for _, process in begun].count(slow) == 1
        assert len({process for _, process in begun}) == 3
        (tmp_path / "gate").touch()
        results.append(executor.next_result())
        assert (results[-1].subnet_digest, slow) in logged(tmp_path, "ended")
        for task in more:
            executor.submit(task)
        results += [executor.next_result() for _ in more]
        assert executor.status == ""
    assert len(results) == 40
    assert {result.subnet_digest for result in results} == {task.subnet_digest for task in tasks + more}


def test_a_withdrawn_task_is_skipped_where_it_waited(tmp_path: Path) -> None:
    actor = EvaluatorActor("support.ray_burn:make", {"log": str(tmp_path)})
    assert isinstance(actor.build(), Location)
    first, second, third = tasks_of(3)
    actor.withdraw(1)
    answers = [actor.evaluate(task, ticket) for ticket, task in enumerate((first, second, third))]
    assert [answer and answer.subnet_digest for answer in answers] == [first.subnet_digest, None, third.subnet_digest]
    assert second.subnet_digest not in {subnet for subnet, _ in logged(tmp_path, "begun")}
    actor.withdraw(1)  # too late, and of no consequence
    assert actor.evaluate(second, 3) is not None


def test_workers_without_a_place_hold_no_tasks(tmp_path: Path) -> None:
    """Five workers on three CPUs: two never get a place, and the other three do everything."""
    with RayExecutor("support.ray_burn:make", {"log": str(tmp_path)}, workers=5) as executor:
        wait_until(lambda: len(list(tmp_path.glob("built-*"))) == 3)
        for task in tasks_of(30):
            executor.submit(task)
        assert len({executor.next_result().subnet_digest for _ in range(30)}) == 30
        assert executor.status in ("1 of 5 workers", "2 of 5 workers", "3 of 5 workers")


def test_a_factory_that_fails_is_named_with_its_cause() -> None:
    with pytest.raises(RunError, match=r"(?s)ray_burn:broken cannot be built: FileNotFoundError: no weights at /x"):
        RayExecutor("support.ray_burn:broken", {"weights": "/x"}, workers=1)
    with pytest.raises(RunError, match="No module named 'nowhere'"):
        RayExecutor("nowhere:make", {}, workers=1)


@pytest.mark.slow
def test_a_factory_that_kills_its_process_is_not_tried_for_ever() -> None:
    with pytest.raises(RunError, match=r"workers die while factory support\.ray_burn:lethal builds"):
        RayExecutor("support.ray_burn:lethal", {}, workers=1)


def test_a_candidate_that_three_workers_lack_memory_for_fails_and_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = tasks_of(12)
    spec = {"log": str(tmp_path), "hungry": [tasks[3].subnet_digest]}
    with RayExecutor("support.ray_burn:make", spec, workers=2) as executor:
        for task in tasks:
            executor.submit(task)
        results = {result.subnet_digest: result for result in (executor.next_result() for _ in tasks)}
    hungry = results.pop(tasks[3].subnet_digest)
    assert (hungry.error, hungry.out_of_memory) == ("MemoryError", True)
    assert {result.error for result in results.values()} == {None}
    attempts = [process for subnet, process in logged(tmp_path, "begun") if subnet == tasks[3].subnet_digest]
    assert len(set(attempts)) == 3, "each attempt in another process"
    assert caplog.text.count("is replaced: MemoryError") == 2


def test_a_worker_without_memory_for_its_build_is_built_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with RayExecutor("support.ray_burn:hungry_to_build", {"log": str(tmp_path), "failures": 2}, workers=1) as executor:
        executor.submit(tasks_of(1)[0])
        assert executor.next_result().error is None
    assert caplog.text.count("MemoryError") == 2
    with pytest.raises(RunError, match=r"hungry_to_build cannot be built: MemoryError"):
        RayExecutor("support.ray_burn:hungry_to_build", {"log": str(tmp_path), "failures": 9}, workers=1)


@pytest.mark.slow
def test_a_worker_that_cannot_be_built_is_given_up_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with RayExecutor("support.ray_burn:broken_here", {"log": str(tmp_path)}, workers=2) as executor:
        for task in tasks_of(20):
            executor.submit(task)
        assert all(executor.next_result().error is None for _ in range(20))

        def given_up() -> bool:
            executor.submit(tasks_of(1)[0])  # builds are looked at while results are waited for
            executor.next_result()
            return executor.capacity < 4

        wait_until(given_up)
    assert "is given up after 3 failed builds in a row: FileNotFoundError: no images on this node" in caplog.text


def test_wrong_arguments_are_refused() -> None:
    for factory in ("ray_burn", "ray_burn.make", "ray_burn:make:it", ":make"):
        with pytest.raises(InputError, match=r"package\.module:function"):
            RayExecutor(factory, {}, workers=1)
    with pytest.raises(InputError, match="workers is 0"):
        RayExecutor("support.ray_burn:make", {}, workers=0)
    with pytest.raises(InputError, match="gpus_per_worker is -1"):
        RayExecutor("support.ray_burn:make", {}, workers=1, gpus_per_worker=-1)
    with pytest.raises(InputError, match="evaluation_timeout is 0"):
        RayExecutor("support.ray_burn:make", {}, workers=1, evaluation_timeout=0)


def test_more_than_this_machine_has_is_refused_and_a_full_cluster_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError, match="1000 GPUs are needed, this machine has 0"):
        check_room(workers=1, gpus_per_worker=1000, grows=False)
    check_room(workers=50, gpus_per_worker=0, grows=True)
    assert "50 CPUs are needed, the Ray cluster has" in caplog.text


def test_a_worker_process_needs_no_control_plane() -> None:
    program = "import sys, workers.actor; print(sorted({'ray', 'optuna', 'sqlalchemy', 'torch'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
