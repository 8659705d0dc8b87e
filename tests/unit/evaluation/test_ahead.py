"""Starting the next candidate before this one's scores are read: the same results, whoever its neighbours are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from glorasearch.data import Splits
from glorasearch.evaluation import CandidateEvaluator
from glorasearch.search import InProcessExecutor
from glorasearch.space import EvaluationResult, EvaluationTask, Fitness, StopThreshold, Subnet, sample
from glorasearch.supernet import Supernet


class Ahead(CandidateEvaluator):
    """Does on the CPU what is otherwise done on a GPU only."""

    begun = 0

    @property
    def ahead(self) -> bool:
        return True

    def _begin(self, subnet: Subnet) -> Any:
        self.begun += 1
        return super()._begin(subnet)


def results(evaluator: CandidateEvaluator, tasks: list[EvaluationTask]) -> list[EvaluationResult]:
    found: list[EvaluationResult] = []
    waiting = iter(tasks)
    under_way = 0
    with InProcessExecutor(evaluator) as executor:
        while len(found) < len(tasks):
            while under_way < executor.capacity and (task := next(waiting, None)) is not None:
                executor.submit(task)
                under_way += 1
            found.append(executor.next_result())
            under_way -= 1
    return found


def scores(result: EvaluationResult) -> tuple[Any, ...]:
    score = result.score
    return result.subnet_digest, score and replace(score, seconds=0.0), result.error


@pytest.mark.parametrize("fitness", [None, "tempered", "cross_entropy"])
def test_the_same_results(splits: Splits, fitted: Supernet, fitness: Fitness | None) -> None:
    supernet = fitted
    rng = np.random.default_rng(0)
    subnets = [sample(supernet.space, rng) for _ in range(12)]
    plain = CandidateEvaluator(supernet, splits.search, batch_size=10, weights="w", hardest_first=True)
    found = [plain.evaluate(subnet) for subnet in subnets]
    threshold = fitness and StopThreshold(fitness, sorted(getattr(score, fitness) for score in found)[3])
    tasks = [EvaluationTask(subnet.to_json(), subnet.digest, "w", threshold) for subnet in subnets]
    foreign = Subnet({("no.such.layer", "A"): "vector"})
    tasks.insert(3, EvaluationTask(foreign.to_json(), foreign.digest, "w", threshold))
    tasks.insert(6, EvaluationTask("not JSON", "digest", "w", threshold))
    tasks.insert(8, EvaluationTask(subnets[0].to_json(), subnets[0].digest, "other weights", threshold))
    expected = [scores(plain(task)) for task in tasks]
    ahead = Ahead(supernet, splits.search, batch_size=10, weights="w", hardest_first=True)
    assert [scores(result) for result in results(ahead, tasks)] == expected
    assert sum(error is not None for *_, error in expected) == 3
    assert any(score is not None and score.stopped_early for _, score, _ in expected) == (fitness is not None)
    assert ahead.begun == 12 + 1, "each was begun once, the foreign one in vain"
    assert not ahead._parsed


def test_a_refresh_drops_what_was_begun(splits: Splits, new_supernet: Callable[..., Supernet]) -> None:
    supernet = new_supernet()
    rng = np.random.default_rng(1)
    first, second = sample(supernet.space, rng), supernet.space.largest()
    evaluator = Ahead(supernet, splits.search)
    for subnet in (first, second):
        evaluator.prepare(EvaluationTask(subnet.to_json(), subnet.digest, "w"))
    evaluator(EvaluationTask(first.to_json(), first.digest, "w"))
    for parameter in supernet.adapter_parameters().values():
        parameter.data.normal_(std=0.3)
    evaluator.refresh()
    found = evaluator(EvaluationTask(second.to_json(), second.digest, "w"))
    task = EvaluationTask(second.to_json(), second.digest, "w")
    assert scores(found) == scores(CandidateEvaluator(supernet, splits.search)(task))
