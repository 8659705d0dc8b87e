"""What chance alone would have found, from random subnets that are scored like candidates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from optuna.study import StudyDirection

from glorasearch.runs.results import SearchChance
from glorasearch.search import Executor, SearchOutcome
from glorasearch.search.trials import direction, worth
from glorasearch.space import CLASS_METRICS, BoundSpace, EvaluationTask, Fitness, sample_within_budget
from glorasearch.statistics import best_by_chance
from glorasearch.statistics.chance import LEAST_SCORES

CHANCE_TAG: Final = 29
"""Keeps these draws apart from those of the search and of the report."""
BEST_POSSIBLE: Final = {StudyDirection.MAXIMIZE: 1.0, StudyDirection.MINIMIZE: 0.0}


def search_chance(
    executor: Executor,
    space: BoundSpace,
    weights: str,
    outcome: SearchOutcome,
    *,
    fitness: Fitness,
    seed: int,
    count: int,
    on_score: Callable[[int], None] = lambda done: None,
) -> SearchChance | None:
    """The search's winner against the best of as many random subnets as it evaluated.

    Random subnets are drawn within the budget and scored to the end on the search split, with the weights of the
    supernet, as candidates are. The first generation would not do: named points are among it, and it was stopped early.

    Args:
        executor: evaluates them.
        space: what was searched.
        weights: digest of the supernet's weights.
        outcome: of the search.
        fitness: what was optimised.
        seed: of the run.
        count: random subnets to score.
        on_score: called with the number of scores after each.

    Returns:
        None if too few of them have a finite score to say anything.
    """
    rng = np.random.default_rng([seed, CHANCE_TAG])
    subnets = [sample_within_budget(space, rng) for _ in range(count)]
    distinct = {subnet.digest: subnet for subnet in subnets}
    metrics = (fitness,) if fitness in CLASS_METRICS else ()
    for digest, subnet in distinct.items():
        executor.submit(EvaluationTask(subnet.to_json(), digest, weights, metrics=metrics))
    fitness_of: dict[str, float] = {}
    for done in range(len(distinct)):
        result = executor.next_result()
        if result.score is not None and result.failure is None:
            fitness_of[result.subnet_digest] = worth(fitness, result.score)
        on_score(done + 1)
    # In the order of the draws, not of arrival; a subnet that was drawn twice counts twice.
    scores = tuple(fitness_of[subnet.digest] for subnet in subnets if subnet.digest in fitness_of)
    found, towards = worth(fitness, outcome.best.score), direction(fitness)
    if len(scores) < LEAST_SCORES or not math.isfinite(found):
        return None
    chance = best_by_chance(
        scores,
        max(1, outcome.evaluated),
        found,
        lower_is_better=towards is StudyDirection.MINIMIZE,
        limit=BEST_POSSIBLE[towards],
    )
    return SearchChance.judged(chance, fitness=fitness, found=found, scores=scores)
