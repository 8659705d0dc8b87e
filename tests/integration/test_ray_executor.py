"""Ray actors that are really killed, factories that really fail, and searches that must not notice."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from glorasearch.db import TrialStorage
from glorasearch.errors import InputError, JobError
from glorasearch.search import Executor, InProcessExecutor, SearchConfig, SearchDriver, SearchOutcome, SearchProgress
from glorasearch.space import BoundSpace, EvaluationTask, LayerShape, SearchSpace
from workers import RayExecutor
from workers.cluster import check_room, connect
from workers.factory import build_evaluator

CONFIG = SearchConfig(trials=60, population=20, parents=5, seed=3)


@pytest.fixture(scope="module", autouse=True)
def shared_ray() -> Iterator[None]:
    """One Ray for all, as starting one takes seconds; its workers can import what the tests can."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        assert connect(workers=2, gpus_per_worker=0, address=None)
        yield
    ray.shutdown()


def small_space() -> BoundSpace:
    choices = {"A": ["lora:2", "vector", "none"], "B": ["lora:4", "lora:2", "none"], "E": ["vector", "none"]}
    space = SearchSpace.from_dict({"name": "small", "choices": choices, "budget": {"max": 900}})
    return space.bind([LayerShape(f"blocks.{index}.fc", 32, 32) for index in range(6)])


def search(
    executor: Executor, path: Path, on_progress: Callable[[SearchProgress], None] | None = None
) -> tuple[SearchOutcome, list[object]]:
    storage = TrialStorage(f"sqlite:///{path}")
    driver = SearchDriver(small_space(), storage, executor, "weights", "study", CONFIG, on_progress=on_progress)
    outcome = driver.run()
    trials = storage.get_all_trials(storage.get_study_id_from_name("study"))
    return outcome, [(trial.number, trial.params, trial.values, trial.user_attrs, trial.state) for trial in trials]


def test_the_same_trials_and_winner_as_in_process_though_a_worker_is_killed(tmp_path: Path) -> None:
    spec = {"rounds": 60_000, "failing": 10}
    expected, trials = search(InProcessExecutor(build_evaluator("ray_burn:make", spec)), tmp_path / "here.db")
    log = tmp_path / "log"
    log.mkdir()
    with RayExecutor("ray_burn:make", spec | {"log": str(log)}, workers=2) as executor:
        assert executor.capacity == 4
        victims = [int(path.name.split("-")[1]) for path in log.glob("built-*")]
        assert len(victims) == 2

        def kill(progress: SearchProgress) -> None:
            if progress.done in (7, 25):
                os.kill(victims.pop(), signal.SIGKILL)

        outcome, found = search(executor, tmp_path / "ray.db", kill)
    assert not victims
    assert len(list(log.glob("built-*"))) == 4, "each killed worker was replaced"
    begun = [path.name.removeprefix("begun-") for path in log.glob("begun-*")]
    ended = [path.name.removeprefix("ended-") for path in log.glob("ended-*")]
    assert len(begun) > len(ended), "at least one was killed in the middle of an evaluation"
    assert found == trials
    assert (outcome.best, outcome.subnet, outcome.pareto) == (expected.best, expected.subnet, expected.pareto)
    assert outcome.failed == expected.failed > 0
    assert ray.is_initialized(), "a Ray that the executor found is left alone"


def test_a_subnet_that_kills_its_worker_is_given_up_and_the_others_are_not() -> None:
    subnets = [small_space().smallest(), small_space().largest()]
    tasks = [EvaluationTask(subnet.to_json(), subnet.digest, "weights") for subnet in subnets]
    with RayExecutor("ray_burn:make", {"rounds": 1, "lethal": tasks[0].subnet_digest}, workers=1) as executor:
        for task in tasks:
            executor.submit(task)
        results = {result.subnet_digest: result for result in (executor.next_result(), executor.next_result())}
        assert results[tasks[0].subnet_digest].error == "the worker died 3 times while evaluating this subnet"
        assert results[tasks[1].subnet_digest].error is None


def test_a_factory_that_fails_is_named_with_its_cause() -> None:
    with pytest.raises(JobError, match=r"(?s)ray_burn:broken cannot be built: FileNotFoundError: no weights at /x"):
        RayExecutor("ray_burn:broken", {"weights": "/x"}, workers=1)
    with pytest.raises(JobError, match="No module named 'nowhere'"):
        RayExecutor("nowhere:make", {}, workers=1)


def test_a_factory_that_kills_its_process_is_not_tried_for_ever() -> None:
    with pytest.raises(JobError, match="workers die while factory ray_burn:lethal builds"):
        RayExecutor("ray_burn:lethal", {}, workers=1)


def test_wrong_arguments_are_refused() -> None:
    for factory in ("ray_burn", "ray_burn.make", "ray_burn:make:it", ":make"):
        with pytest.raises(InputError, match=r"package\.module:function"):
            RayExecutor(factory, {}, workers=1)
    with pytest.raises(InputError, match="workers is 0"):
        RayExecutor("ray_burn:make", {}, workers=0)
    with pytest.raises(InputError, match="gpus_per_worker is -1"):
        RayExecutor("ray_burn:make", {}, workers=1, gpus_per_worker=-1)


def test_more_than_this_machine_has_is_refused_and_a_full_cluster_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError, match="1 workers need 1000 GPUs; this machine has 0"):
        check_room(workers=1, gpus_per_worker=1000, grows=False)
    check_room(workers=50, gpus_per_worker=0, grows=True)
    assert "50 workers need 50 CPUs, the Ray cluster has" in caplog.text


def test_a_worker_process_needs_no_control_plane() -> None:
    program = "import sys, workers.actor; print(sorted({'ray', 'optuna', 'sqlalchemy', 'torch'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
