"""Training a supernet, or one subnet of it."""

from typing import TYPE_CHECKING

from glorasearch.lazy import lazy_names
from glorasearch.training.config import TrainingConfig, TrainSection

if TYPE_CHECKING:
    from glorasearch.training.communicator import BACKENDS, Communicator, ProcessGroup, SingleProcess
    from glorasearch.training.records import TrainingRecord, TrainingResult
    from glorasearch.training.sampling import Fixed, SampledSubnet, SamplingStrategy, Sandwich, Uniform, make_strategy
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
    "TrainSection",
    "TrainingConfig",
    "TrainingRecord",
    "TrainingResult",
    "Uniform",
    "make_strategy",
]

__getattr__ = lazy_names(
    __name__,
    {
        "communicator": ("BACKENDS", "Communicator", "ProcessGroup", "SingleProcess"),
        "records": ("TrainingRecord", "TrainingResult"),
        "sampling": ("Fixed", "SampledSubnet", "SamplingStrategy", "Sandwich", "Uniform", "make_strategy"),
        "trainer": ("SupernetTrainer",),
    },
)
