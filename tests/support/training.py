"""Trainers over toy supernets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from glorasearch.data import TrainSplit
from glorasearch.supernet import Supernet
from glorasearch.training import Fixed, SamplingStrategy, Sandwich, SupernetTrainer, Uniform
from glorasearch.training.fast_step import FastStep
from glorasearch.training.optimizer import peak_rates
from glorasearch.training.plain_step import PlainStep
from glorasearch.training.step import Step

STRATEGIES: dict[str, Callable[[Supernet], SamplingStrategy]] = {
    "uniform": lambda supernet: Uniform(supernet.space, 0),
    "sandwich": lambda supernet: Sandwich(supernet.space, 0),
    "fixed": lambda supernet: Fixed(supernet.space.largest()),
}


class FastTrainer(SupernetTrainer):
    """Takes the fused step on any device; on the CPU it runs uncompiled."""

    strict = True

    def _make_step(self) -> Step:
        wanted, self._compile = self._compile, "off"  # on a GPU it would be a fast step already, one that may fall back
        plain = super()._make_step()
        self._compile = wanted
        assert isinstance(plain, PlainStep)
        peaks = peak_rates(self._supernet.space, self._config)
        return FastStep(self._supernet, plain, peaks, self._strategy, self._config, strict=self.strict)


def trainer_of(
    supernet: Supernet,
    data: TrainSplit,
    strategy: SamplingStrategy | None,
    recipe: Mapping[str, Any],
    given: Mapping[str, Any],
) -> SupernetTrainer:
    """A trainer by a recipe; what is given are keywords of its `Config`, or its other arguments."""
    fields = set(SupernetTrainer.Config.model_fields)
    config = SupernetTrainer.Config(**dict(recipe) | {key: value for key, value in given.items() if key in fields})
    others = {key: value for key, value in given.items() if key not in fields}
    return SupernetTrainer(supernet, data, strategy or Uniform(supernet.space, config.seed), config, **others)


def state_of(supernet: Supernet) -> dict[str, Tensor]:
    """Everything that is trained, copied."""
    return {name: value.clone() for name, value in supernet.adapter_state().items()}
