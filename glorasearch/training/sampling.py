"""What a training step sees, subnets and images: drawn outside `forward`, from seed and step alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glorasearch.space import BoundSpace, Subnet, sample
from glorasearch.training.balance import balanced_epoch
from glorasearch.training.config import TrainingConfig

SUBNET_TAG, ORDER_TAG, MODEL_TAG = 1, 2, 3
"""What a generator is for: sampling subnets, ordering images, randomness inside the model (drop path)."""
AUGMENT_TAG = 2**32
"""Augmentation. Tags from `MODEL_TAG` on are those of a step's subnets."""


def step_generator(seed: int, step: int, tag: int = SUBNET_TAG, rank: int = 0) -> np.random.Generator:
    """The generator of a rank's step for one purpose; resuming needs no stored generator state."""
    return np.random.default_rng([seed, tag, step, rank] if rank else [seed, tag, step])


@dataclass(frozen=True, slots=True)
class SampledSubnet:
    """One subnet of a step, and whether it learns from the step's first subnet instead of from the labels."""

    subnet: Subnet
    distilled: bool = False


class SamplingStrategy(ABC):
    """Samples the subnets of a step: a pure function of step and rank, so that a resumed training samples the same."""

    @abstractmethod
    def sample(self, step: int, rank: int = 0) -> list[SampledSubnet]:
        """The subnets whose gradients a rank averages in a step, at least one; the first is never distilled.

        The number of subnets and which of them are distilled are the same in every step.
        """

    @abstractmethod
    def identity(self) -> str:
        """Text that distinguishes it from other strategies over the same space; the same in every process."""


@dataclass(frozen=True)
class Fixed(SamplingStrategy):
    """Always the same subnet: how a fixed method, or a refit, is trained."""

    subnet: Subnet

    def sample(self, step: int, rank: int = 0) -> list[SampledSubnet]:
        """The subnet, whatever the step and the rank."""
        return [SampledSubnet(self.subnet)]

    def identity(self) -> str:
        """Kind and subnet."""
        return f"fixed {self.subnet.digest}"


@dataclass(frozen=True)
class Uniform(SamplingStrategy):
    """One uniformly sampled choice for every gene (single path; GLoRA, arXiv 2306.07967)."""

    space: BoundSpace
    seed: int

    def sample(self, step: int, rank: int = 0) -> list[SampledSubnet]:
        """One random subnet."""
        return [SampledSubnet(sample(self.space, step_generator(self.seed, step, rank=rank)))]

    def identity(self) -> str:
        """Kind and seed."""
        return f"uniform {self.seed}"


@dataclass(frozen=True)
class Sandwich(SamplingStrategy):
    """The largest subnet on the labels; the smallest and `middle` random ones distilled from it in place.

    The sandwich rule and in-place distillation of universally slimmable networks (arXiv 1903.05134). A step costs
    `2 + middle` forward and backward passes.
    """

    space: BoundSpace
    seed: int
    middle: int = 1

    def sample(self, step: int, rank: int = 0) -> list[SampledSubnet]:
        """Largest, random, smallest."""
        rng = step_generator(self.seed, step, rank=rank)
        distilled = [*(sample(self.space, rng) for _ in range(self.middle)), self.space.smallest()]
        return [SampledSubnet(self.space.largest()), *(SampledSubnet(subnet, distilled=True) for subnet in distilled)]

    def identity(self) -> str:
        """Kind, seed and number of random subnets."""
        return f"sandwich {self.seed} {self.middle}"


def make_strategy(config: TrainingConfig, space: BoundSpace) -> SamplingStrategy:
    """The strategy that a recipe names; the one subnet of a fixed method is trained alone, whatever the recipe says."""
    if space.size() == 1:
        return Fixed(space.largest())
    if config.strategy == "sandwich":
        return Sandwich(space, config.seed, config.middle)
    return Uniform(space, config.seed)


class BatchOrder:
    """Full batches from an endless stream of shuffled epochs; a batch may reach over the end of an epoch.

    The images of a step are computed from its number, so no position in the data is stored to resume. With labels, an
    epoch is one of `balanced_epoch`.
    """

    def __init__(self, images: int, batch_size: int, seed: int, labels: Tensor | None = None) -> None:
        self._images, self._seed = images, seed
        self._labels = None if labels is None else labels.cpu().numpy()
        self._batch_size = batch_size
        self._epochs: dict[int, Tensor] = {}

    def indices(self, step: int) -> Tensor:
        """Indices `(batch_size,)` of the images of a step, counted from 0."""
        start = step * self._batch_size
        parts: list[Tensor] = []
        missing = self._batch_size
        while missing:
            epoch, offset = divmod(start, self._images)
            part = self._epoch(epoch)[offset : offset + missing]
            parts.append(part)
            start += len(part)
            missing -= len(part)
        return torch.cat(parts)

    def _epoch(self, epoch: int) -> Tensor:
        if epoch not in self._epochs:
            self._epochs = {known: order for known, order in self._epochs.items() if known == epoch - 1}
            rng = step_generator(self._seed, epoch, ORDER_TAG)
            order = rng.permutation(self._images) if self._labels is None else balanced_epoch(self._labels, rng)
            self._epochs[epoch] = torch.from_numpy(order)
        return self._epochs[epoch]
