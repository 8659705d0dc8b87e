"""Successive halving over folds (Jamieson and Talwalkar 2016): what is trained next, and who is ahead.

Pure functions of scores, so a race that was interrupted goes on from those that are stored.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from glorasearch.race.candidates import Candidate
from glorasearch.race.config import Judge, RaceConfig
from glorasearch.race.scores import FoldScore, Standing, standing


class Training(NamedTuple):
    """One model of the race: a candidate on all images but those of a fold."""

    candidate: Candidate
    fold: int

    @property
    def place(self) -> tuple[str, int]:
        """Key of the candidate, and fold."""
        return self.candidate.key, self.fold


Scores = Mapping[tuple[str, int], FoldScore]
"""(key of the candidate, fold) -> its score there."""


def rungs_of(config: RaceConfig) -> range:
    """The rungs, from 1: all candidates on few folds, the better half on more, the best few on the others."""
    return range(1, len(config.judged) + 1)


def folds_of(rung: int, config: RaceConfig) -> range:
    """The folds of a rung."""
    return range((0, *config.judged)[rung - 1], config.judged[rung - 1])


def standing_of(
    candidate: Candidate, scores: Scores, folds: Iterable[int], betas: Sequence[float], judge: Judge = "accuracy"
) -> Standing:
    """A candidate's score over those of the folds that it was judged on."""
    return standing([scores[candidate.key, fold] for fold in folds if (candidate.key, fold) in scores], betas, judge)


def rank(standings: Mapping[Candidate, Standing], judge: Judge) -> list[Candidate]:
    """Candidates, the best first: by `judge`, the other score, fewer parameters, and their order.

    The other score of accuracy is the tempered cross-entropy, as it is of metrics that take classes alike. A training
    that diverged counts as one without a correct image, or the largest error.
    """

    def order(candidate: Candidate) -> tuple[float, float, int]:
        found = standings[candidate]
        tempered = math.inf if found.tempered is None else found.tempered
        accuracy = found.accuracy or 0.0
        match judge:
            case "accuracy":
                scores = -accuracy, tempered
            case "tempered":
                scores = tempered, -accuracy
            case "squared_error":
                scores = math.inf if found.judged is None else found.judged, 0.0
            case _:
                scores = 0.0 if found.judged is None else -found.judged, tempered
        return *scores, candidate.entrant.parameters

    return sorted(standings, key=order)  # stable


def entrants_of(
    rung: int, candidates: Sequence[Candidate], scores: Scores, config: RaceConfig, betas: Sequence[float]
) -> list[Candidate]:
    """The candidates of a rung, in their order; known once the rung before it is complete."""
    found = list(candidates)
    for before, count in enumerate(config.entrants(len(candidates))[1:rung], 1):
        kept = set(_ranked(found, scores, range(config.judged[before - 1]), config, betas)[:count])
        found = [candidate for candidate in found if candidate in kept]
    return found


def trainings_of(
    rung: int, candidates: Sequence[Candidate], scores: Scores, config: RaceConfig, betas: Sequence[float]
) -> list[Training]:
    """The trainings of a rung, whether they are done or not, so that an interrupted race has the same stacks again.

    Those of one entrant are neighbours: the fewer subnets a stack has, the fewer kernels its step takes.
    """
    entrants = entrants_of(rung, candidates, scores, config, betas)
    return [Training(candidate, fold) for candidate in entrants for fold in folds_of(rung, config)]


def ranking(
    candidates: Sequence[Candidate], scores: Scores, config: RaceConfig, betas: Sequence[float]
) -> list[Candidate]:
    """All candidates, the best first: those of the last rung by all folds, then those of the one before, and so on."""
    found: list[Candidate] = []
    for rung in reversed(rungs_of(config)):
        placed = set(found)
        left = [one for one in entrants_of(rung, candidates, scores, config, betas) if one not in placed]
        found += _ranked(left, scores, range(config.judged[rung - 1]), config, betas)
    return found


def _ranked(
    candidates: Iterable[Candidate], scores: Scores, folds: Iterable[int], config: RaceConfig, betas: Sequence[float]
) -> list[Candidate]:
    seen = tuple(folds)
    return rank({one: standing_of(one, scores, seen, betas, config.judge) for one in candidates}, config.judge)


def stacks(trainings: Sequence[Training], size: int) -> list[tuple[Training, ...]]:
    """Trainings in as few stacks of at most `size` as there can be, in order, and as even as they can be."""
    count = max(1, -(-len(trainings) // size))
    ends = [len(trainings) * number // count for number in range(count + 1)]
    return [tuple(trainings[first:end]) for first, end in pairwise(ends) if first < end]
