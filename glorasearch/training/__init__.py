"""Training a supernet, or one subnet of it."""

from glorasearch.training.paths import Fixed, Path, PathStrategy, Sandwich, Uniform
from glorasearch.training.records import TrainingRecord, TrainingResult
from glorasearch.training.trainer import SupernetTrainer
from glorasearch.training.world import BACKENDS, ProcessGroup, World

__all__ = [
    "BACKENDS",
    "Fixed",
    "Path",
    "PathStrategy",
    "ProcessGroup",
    "Sandwich",
    "SupernetTrainer",
    "TrainingRecord",
    "TrainingResult",
    "Uniform",
    "World",
]
