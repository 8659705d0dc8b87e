"""Random subnets scored beside a search, whatever the executor does."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from support.spaces import small_space

from glorasearch.db import TrialStorage
from glorasearch.errors import EvaluationError
from glorasearch.runs.chance import CHANCE_TAG, search_chance
from glorasearch.runs.results import SearchChance
from glorasearch.search import Executor, InProcessExecutor, SearchConfig, SearchDriver, SearchOutcome
from glorasearch.space import EvaluationResult, EvaluationTask, Fitness, Score, sample_within_budget

SEED = 5
WEIGHTS = "w" * 64


def score(digest: str) -> Score:
    """Some score that depends on the subnet alone."""
    noise = np.random.default_rng(int(hashlib.sha256(digest.encode()).hexdigest()[:12], 16)).normal()
    return Score(int(100 + 10 * noise), 200, 1.0 - 0.1 * noise, 0.9 - 0.1 * noise, beta=1.0)


def evaluate(task: EvaluationTask) -> EvaluationResult:
    assert task.weights_digest == WEIGHTS
    return EvaluationResult(task.subnet_digest, score(task.subnet_digest))


class LastFirst(InProcessExecutor):
    """Answers the task that was submitted last."""

    def next_result(self) -> EvaluationResult:
        self._waiting.rotate(1)
        return super().next_result()


def outcome(trials: int = 40) -> SearchOutcome:
    """What a random search finds with these scores."""
    config = SearchConfig(sampler="random", trials=trials, seed=1)
    driver = SearchDriver(
        small_space(), TrialStorage("sqlite://"), InProcessExecutor(evaluate), WEIGHTS, "study", config
    )
    return driver.run()


def chance(executor: Executor, *, count: int = 32, fitness: Fitness = "tempered") -> SearchChance | None:
    return search_chance(executor, small_space(), WEIGHTS, outcome(), fitness=fitness, seed=SEED, count=count)


def drawn(count: int) -> list[str]:
    """Digests of the subnets that are scored."""
    rng, space = np.random.default_rng([SEED, CHANCE_TAG]), small_space()
    return [sample_within_budget(space, rng).digest for _ in range(count)]


def test_the_scores_are_those_of_the_draws_in_their_order() -> None:
    found = chance(InProcessExecutor(evaluate))

    assert found is not None
    assert found.scores == tuple(score(digest).tempered for digest in drawn(32))
    assert (found.fitness, found.draws, found.found) == ("tempered", 40, outcome().best.score.tempered)
    assert chance(LastFirst(evaluate)) == found


@pytest.mark.parametrize(("fitness", "sign"), [("accuracy", 1), ("cross_entropy", -1), ("tempered", -1)])
def test_the_best_by_chance_is_on_the_good_side(fitness: Fitness, sign: int) -> None:
    found = chance(InProcessExecutor(evaluate), fitness=fitness)

    assert found is not None
    assert sign * (found.expected - found.mean) > 2 * found.std > 0
    assert found.low < found.expected < found.high


def test_a_random_search_is_within_what_chance_has() -> None:
    found = chance(InProcessExecutor(evaluate))

    assert found is not None
    assert found.verdict == "within"


def test_subnets_that_cannot_be_scored_are_left_out() -> None:
    lost, infinite, *_ = drawn(32)

    def some(task: EvaluationTask) -> EvaluationResult:
        if task.subnet_digest == lost:
            raise EvaluationError("no")
        if task.subnet_digest == infinite:
            return EvaluationResult(task.subnet_digest, Score(1, 200, math.inf, math.inf, beta=1.0))
        return evaluate(task)

    found = chance(InProcessExecutor(some))

    assert found is not None
    assert found.scores == tuple(score(digest).tempered for digest in drawn(32) if digest not in (lost, infinite))


def test_too_few_scores_say_nothing() -> None:
    assert chance(InProcessExecutor(evaluate), count=7) is None
    assert chance(InProcessExecutor(evaluate), count=8) is not None
