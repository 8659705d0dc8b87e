"""Training a supernet, or one subnet of it."""

from glorasearch.training.paths import Fixed, Path, PathStrategy, Sandwich, Uniform
from glorasearch.training.trainer import SupernetTrainer, TrainingRecord, TrainingResult

__all__ = [
    "Fixed",
    "Path",
    "PathStrategy",
    "Sandwich",
    "SupernetTrainer",
    "TrainingRecord",
    "TrainingResult",
    "Uniform",
]
