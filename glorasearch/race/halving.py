"""Successive halving over folds (Jamieson and Talwalkar 2016): what is trained next, and who is ahead.

Pure functions of scores, so a race that was interrupted goes on from those that are stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from glorasearch.race.candidates import Candidate
from glorasearch.race.config import Judge, RaceConfig
from glorasearch.race.scores import FoldScore, Standing, standing

RUNGS: Final = (1, 2)
"""The first has all candidates on few folds, the second the best of them on the others."""


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


def folds_of(rung: int, config: RaceConfig) -> range:
    """The folds of a rung."""
    return range(config.first_folds) if rung == 1 else range(config.first_folds, config.folds)


def standing_of(candidate: Candidate, scores: Scores, folds: Iterable[int], betas: Sequence[float]) -> Standing:
    """A candidate's score over those of the folds that it was judged on."""
    return standing([scores[candidate.key, fold] for fold in folds if (candidate.key, fold) in scores], betas)


def rank(standings: Mapping[Candidate, Standing], judge: Judge) -> list[Candidate]:
    """Candidates, the best first: by `judge`, the other score, fewer parameters, and their order.

    A training that diverged counts as one without a correct image.
    """

    def order(candidate: Candidate) -> tuple[float, float, int]:
        found = standings[candidate]
        tempered = float("inf") if found.tempered is None else found.tempered
        scores = (-found.accuracy, tempered) if judge == "accuracy" else (tempered, -found.accuracy)
        return *scores, candidate.entrant.parameters

    return sorted(standings, key=order)  # stable


def entrants_of(
    rung: int, candidates: Sequence[Candidate], scores: Scores, config: RaceConfig, betas: Sequence[float]
) -> list[Candidate]:
    """The candidates of a rung; those of the second are known once the first is complete."""
    if rung == 1:
        return list(candidates)
    first = folds_of(1, config)
    standings = {candidate: standing_of(candidate, scores, first, betas) for candidate in candidates}
    return rank(standings, config.judge)[: config.keep]


def trainings_of(
    rung: int, candidates: Sequence[Candidate], scores: Scores, config: RaceConfig, betas: Sequence[float]
) -> list[Training]:
    """The trainings of a rung, whether they are done or not, so that an interrupted race has the same stacks again."""
    entrants = entrants_of(rung, candidates, scores, config, betas)
    return [Training(candidate, fold) for fold in folds_of(rung, config) for candidate in entrants]


def ranking(
    candidates: Sequence[Candidate], scores: Scores, config: RaceConfig, betas: Sequence[float]
) -> list[Candidate]:
    """All candidates, the best first: those of the last rung by all folds, then the others by the first folds."""
    kept = entrants_of(2, candidates, scores, config, betas)
    last = {candidate: standing_of(candidate, scores, range(config.folds), betas) for candidate in kept}
    left = [candidate for candidate in candidates if candidate not in last]
    first = {candidate: standing_of(candidate, scores, folds_of(1, config), betas) for candidate in left}
    return [*rank(last, config.judge), *rank(first, config.judge)]


def stacks(trainings: Sequence[Training], size: int) -> list[tuple[Training, ...]]:
    """Trainings in as few stacks of at most `size` as there can be, in order, and as even as they can be."""
    count = max(1, -(-len(trainings) // size))
    ends = [len(trainings) * number // count for number in range(count + 1)]
    return [tuple(trainings[first:end]) for first, end in pairwise(ends) if first < end]
