"""How pilots find a learning rate: which subnets judge them, in which order they run, and when one is given up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from glorasearch.runs.results import PilotSummary
from glorasearch.space import BoundSpace, Fitness, Subnet, sample_within_budget
from glorasearch.training import TrainingConfig

JUDGED_BY: Final[Fitness] = "tempered"
"""The mean of this over the judged subnets is a pilot's score."""
JUDGED: Final = 8
"""Random subnets within the budget that judge a pilot, besides the largest one."""
JUDGE_STREAM: Final = 29
"""Seeds their draw, together with the run's seed, so that it is independent of all other draws."""
BEHIND: Final = 1.25
"""A pilot is given up where its score is this many times that of the best one at the same check."""


def judged_subnets(space: BoundSpace, seed: int) -> dict[str, Subnet]:
    """Name of a metric → a subnet whose score is part of a pilot's: random ones and the largest, or the only one."""
    if space.size() == 1:
        return {JUDGED_BY: space.largest()}
    rng = np.random.default_rng([seed, JUDGE_STREAM])
    drawn = {f"{JUDGED_BY}_random_{number}": sample_within_budget(space, rng) for number in range(1, JUDGED + 1)}
    return {f"{JUDGED_BY}_largest": space.largest()} | drawn


def checks(config: TrainingConfig) -> tuple[int, ...]:
    """After how many steps a pilot is judged."""
    every = config.probe_every
    return (*range(every, config.steps, every), config.steps)


def in_order(rates: Iterable[float]) -> list[float]:
    """The rates from the middle outwards: a good one that runs first lets the others be given up early."""
    by_size = sorted(rates)
    middle = (len(by_size) - 1) / 2
    return sorted(by_size, key=lambda rate: (abs(by_size.index(rate) - middle), rate))


def is_behind(scores: Sequence[float], others: Iterable[PilotSummary]) -> bool:
    """Whether a pilot with these scores is given up: clearly behind the best of the others at its last check."""
    last = len(scores) - 1
    there = [other.scores[last] for other in others if len(other.scores) > last]
    return bool(there) and scores[last] > BEHIND * min(there)


def best(pilots: Iterable[PilotSummary]) -> PilotSummary | None:
    """The pilot with the best score at its end, of equal ones that with the lowest rate; None if none got there."""
    ended = [(pilot.score, pilot.rate, pilot) for pilot in pilots if pilot.score is not None]
    return min(ended, key=lambda item: item[:2])[2] if ended else None
