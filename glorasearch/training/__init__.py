"""Training a supernet, or one subnet of it."""

from glorasearch.training.communicator import BACKENDS, Communicator, ProcessGroup, SingleProcess
from glorasearch.training.records import TrainingRecord, TrainingResult
from glorasearch.training.sampling import Fixed, SampledSubnet, SamplingStrategy, Sandwich, Uniform
from glorasearch.training.trainer import SupernetTrainer

__all__ = [
    "BACKENDS",
    "Communicator",
    "Fixed",
    "ProcessGroup",
    "SampledSubnet",
    "SamplingStrategy",
    "Sandwich",
    "SingleProcess",
    "SupernetTrainer",
    "TrainingRecord",
    "TrainingResult",
    "Uniform",
]
