"""What trials are compared by: parts of their scores, and what their subnets cost."""

from __future__ import annotations

from typing import Final, Literal, TypeGuard, get_args

from glorasearch.space import Fitness, higher_is_better

Cost = Literal["parameters", "bytes", "latency", "training_flops"]
"""What a subnet costs; less is better.

- `parameters`: those that are trained, the head excluded.
- `bytes`: of its adapters in float32, with the directions that are stored but not trained; the head excluded.
- `latency`: milliseconds of a forward pass of one image with its adapters unmerged.
- `training_flops`: floating-point operations of a training step of one image, unmerged.
"""
COSTS: Final[tuple[Cost, ...]] = get_args(Cost)
MEASURED_COSTS: Final[tuple[Cost, ...]] = ("latency", "training_flops")
"""Those that need the model."""
Objective = Literal[Fitness, Cost]
DEFAULT_OBJECTIVES: Final[tuple[Objective, ...]] = ("accuracy", "parameters")
OF_NUMBERS_OBJECTIVES: Final[tuple[Objective, ...]] = ("squared_error", "parameters")
"""The default where images have numbers."""


def is_quality(objective: Objective) -> TypeGuard[Fitness]:
    """Whether an objective is a part of a score, and not a cost."""
    return objective not in COSTS


def rises(objective: Objective) -> bool:
    """Whether more of it is better."""
    return is_quality(objective) and higher_is_better(objective)
