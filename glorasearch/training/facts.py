"""What a training is a function of."""

from __future__ import annotations

from typing import Any

from glorasearch.identity import identity
from glorasearch.supernet import Supernet
from glorasearch.training.config import TrainingConfig
from glorasearch.training.sampling import SamplingStrategy
from glorasearch.training.step import drop_probabilities
from glorasearch.weights import frozen_digest, tensor_digest


def facts_of(supernet: Supernet, data: str, strategy: SamplingStrategy, config: TrainingConfig) -> dict[str, Any]:
    """What a checkpoint must agree in to be resumed, and what all processes must agree in; `data` is a digest."""
    return {
        "config": identity(config),
        "data": data,
        "space": supernet.space.digest,
        "strategy": strategy.identity(),
        "backbone": frozen_digest(supernet),
        "drops": drop_probabilities(supernet),
        "start": tensor_digest(supernet.adapter_state()),
    }
