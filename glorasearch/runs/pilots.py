"""How pilots find a learning rate: which subnets judge them, in which order they run, and when one is given up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from glorasearch.errors import RunError
from glorasearch.runs.results import PilotsSummary, PilotSummary
from glorasearch.space import BoundSpace, Fitness, Subnet, sample_within_budget
from glorasearch.training import TrainingConfig

JUDGED_BY: Final[Fitness] = "tempered"
"""The mean of this over the judged subnets is a pilot's score."""
JUDGED: Final = 8
"""Random subnets within the budget that judge a pilot, besides the largest one."""
JUDGE_STREAM: Final = 29
"""Seeds their draw, together with the run's seed, so that it is independent of all other draws."""
BEHIND: Final = ((2.0, 1 / 3), (1.5, 1 / 2))
"""When a pilot is given up, by check: its score is more than this many times the best one at the same check, or it has
come less than this share of the best one's way down from chance. (Pilots that won in the end were at worst 1.4 and 1.2
times behind at these checks, and never below 0.87 of the way: docs/search-quality-notes.md, "Rates by group".)"""
STARTED: Final = 0.05
"""The second limit holds once the best one has come this share of the way from chance to 0: before, all is noise."""


class GivenUpError(Exception):
    """Ends the training of a pilot that is clearly behind."""


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


def is_behind(scores: Sequence[float], others: Iterable[PilotSummary], chance: float) -> bool:
    """Whether a pilot is given up: clearly behind the best of the others at the latest check, which is not the end.

    Args:
        scores: the pilot's, at the checks so far.
        others: the pilots before it.
        chance: the score of a model that knows nothing.
    """
    latest = len(scores) - 1
    there = [other.scores[latest] for other in others if len(other.scores) > latest]
    if not there or latest >= len(BEHIND):
        return False
    (factor, share), best = BEHIND[latest], min(there)
    gained = chance - best
    return scores[latest] > factor * best or (gained > STARTED * chance and chance - scores[latest] < share * gained)


def outcome(pilots: Sequence[PilotSummary], subnets: int) -> PilotsSummary:
    """What the pilots found: the rate with the best score at its end, of equal ones the lowest.

    Args:
        pilots: all of them.
        subnets: how many subnets judged them.

    Raises:
        RunError: if none got to its end.
    """
    ended = [(pilot.score, pilot.rate) for pilot in pilots if pilot.score is not None]
    if not ended:
        raise RunError(
            f"all pilots diverged, at learning rates {', '.join(f'{one.rate:g}' for one in pilots)}: set lower "
            'train.pilot_rates, a lower train.clip_norm, or train.precision = "float32"'
        )
    return PilotsSummary(
        lr=min(ended)[1],
        pilots=tuple(sorted(pilots, key=lambda pilot: pilot.rate)),
        subnets=subnets,
        steps=sum(pilot.steps for pilot in pilots),
        seconds=sum(pilot.seconds for pilot in pilots),
    )
