"""The race of finalists: who takes part, which trainings it needs, who wins. Pure Python, without torch."""

from glorasearch.race.candidates import OWN_SPACE, Candidate, Entrant, Kind, candidates_of, without_repeats
from glorasearch.race.config import OF_CLASSES, Judge, RaceConfig, Start
from glorasearch.race.folds import fold_of, member_seed
from glorasearch.race.halving import (
    Scores,
    Training,
    entrants_of,
    folds_of,
    rank,
    ranking,
    rungs_of,
    stacks,
    standing_of,
    trainings_of,
)
from glorasearch.race.scores import FoldScore, Standing, standing

__all__ = [
    "OF_CLASSES",
    "OWN_SPACE",
    "Candidate",
    "Entrant",
    "FoldScore",
    "Judge",
    "Kind",
    "RaceConfig",
    "Scores",
    "Standing",
    "Start",
    "Training",
    "candidates_of",
    "entrants_of",
    "fold_of",
    "folds_of",
    "member_seed",
    "rank",
    "ranking",
    "rungs_of",
    "stacks",
    "standing",
    "standing_of",
    "trainings_of",
    "without_repeats",
]
