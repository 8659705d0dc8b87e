"""Which subnets a training step runs. A path is drawn outside `forward`, from the seed and the step alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from glorasearch.space import BoundSpace, Subnet, sample


@dataclass(frozen=True, slots=True)
class Path:
    """One subnet of a step, and whether it learns from the step's first path instead of from the labels."""

    subnet: Subnet
    distilled: bool = False


class PathStrategy(ABC):
    """Draws the paths of a step; a pure function of step and rank, so that a resumed training draws the same."""

    @abstractmethod
    def paths(self, step: int, rank: int = 0) -> list[Path]:
        """The subnets whose gradients a rank averages in this step, at least one; the first is never distilled."""

    @abstractmethod
    def identity(self) -> str:
        """What tells it from other strategies over the same space, in words that are the same in every process."""


@dataclass(frozen=True)
class Fixed(PathStrategy):
    """Always the same subnet: how a fixed method, or a refit, is trained."""

    subnet: Subnet

    def paths(self, step: int, rank: int = 0) -> list[Path]:
        """The subnet, whatever the step and the rank."""
        return [Path(self.subnet)]

    def identity(self) -> str:
        """Kind and subnet."""
        return f"fixed {self.subnet.digest}"


@dataclass(frozen=True)
class Uniform(PathStrategy):
    """One uniformly drawn choice for every gene (single path; the reference, arXiv 2306.07967)."""

    space: BoundSpace
    seed: int

    def paths(self, step: int, rank: int = 0) -> list[Path]:
        """One random subnet."""
        return [Path(sample(self.space, step_generator(self.seed, step, rank=rank)))]

    def identity(self) -> str:
        """Kind and seed."""
        return f"uniform {self.seed}"


@dataclass(frozen=True)
class Sandwich(PathStrategy):
    """The largest subnet on the labels; the smallest and `middle` random ones distilled from it in place.

    The sandwich rule and in-place distillation of universally slimmable networks (arXiv 1903.05134). A step costs
    `2 + middle` forward and backward passes.
    """

    space: BoundSpace
    seed: int
    middle: int = 1

    def paths(self, step: int, rank: int = 0) -> list[Path]:
        """Largest, random, smallest."""
        rng = step_generator(self.seed, step, rank=rank)
        drawn = [sample(self.space, rng) for _ in range(self.middle)]
        return [
            Path(self.space.largest()),
            *(Path(subnet, distilled=True) for subnet in [*drawn, self.space.smallest()]),
        ]

    def identity(self) -> str:
        """Kind, seed and number of random paths."""
        return f"sandwich {self.seed} {self.middle}"


PATH_TAG, ORDER_TAG, MODEL_TAG = 1, 2, 3
"""What a generator is for: drawing paths, ordering images, randomness inside the model (drop path)."""


def step_generator(seed: int, step: int, tag: int = PATH_TAG, rank: int = 0) -> np.random.Generator:
    """The generator of a rank's step for one purpose: nothing has to be stored to resume."""
    return np.random.default_rng([seed, tag, step, rank] if rank else [seed, tag, step])
