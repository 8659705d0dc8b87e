"""What every executor promises, checked on each of them."""

from collections.abc import Iterator

import pytest
import ray
from support import ray_burn
from support.spaces import task_of

from glorasearch.errors import RunError
from glorasearch.search import Executor, InProcessExecutor
from glorasearch.space import EvaluationTask, Subnet
from workers import RayExecutor


def task(number: int) -> EvaluationTask:
    return task_of(Subnet({("blocks.0.mlp.fc1", "B"): f"lora:{number + 1}"}))


FAILING = 96
SPEC = {"rounds": 10, "failing": FAILING, "bug": task(7).subnet_digest}


@pytest.fixture(scope="module", params=["in_process", "ray"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if request.param == "ray":
        made: Executor = RayExecutor("support.ray_burn:make", SPEC, workers=2)
    else:
        made = InProcessExecutor(ray_burn.make(SPEC))
    with made:
        yield made
    assert not ray.is_initialized(), "what an executor started is shut down with it"


def test_every_task_gets_one_result_and_failures_are_results(executor: Executor) -> None:
    assert executor.capacity >= 1
    tasks = {task.subnet_digest: task for task in map(task, [*range(7), *range(8, 30)])}
    for each in tasks.values():
        executor.submit(each)
    results = [executor.next_result() for _ in tasks]
    assert {result.subnet_digest for result in results} == tasks.keys()
    failed = [result for result in results if result.error]
    assert 0 < len(failed) < len(tasks)
    assert {result.error for result in failed} == {"this one never works"}
    scores = [result.score for result in results if not result.error]
    assert all(score and 0.5 <= score.accuracy < 1 and score.seconds == 0.25 for score in scores)


def test_waiting_for_nothing_is_an_error_and_does_not_hang(executor: Executor) -> None:
    with pytest.raises(RunError, match="no result to wait for"):
        executor.next_result()


def test_a_result_does_not_depend_on_when_it_is_asked_for(executor: Executor) -> None:
    found = []
    for _ in range(2):
        executor.submit(task(3))
        found.append(executor.next_result())
    assert repr(found[0]) == repr(found[1])


def test_an_exception_that_nobody_foresaw_is_a_failed_candidate_with_type_and_message(
    executor: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        executor.submit(task(7))
        assert executor.next_result().error == "KeyError: 'a bug'"
    assert caplog.text.count('raise KeyError("a bug")') == 1, "the first traceback is in the log"
    executor.submit(task(8))
    assert executor.next_result().error is None


def test_closing_drops_what_was_submitted_and_may_be_repeated(executor: Executor) -> None:
    executor.submit(task(3))
    for _ in range(2):
        executor.close()
        assert not ray.is_initialized()
        with pytest.raises(RunError, match="no result to wait for"):
            executor.next_result()
