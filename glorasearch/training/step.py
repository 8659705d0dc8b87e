"""What every kind of training step has in common: interface, randomness inside the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glorasearch.training.communicator import Communicator
from glorasearch.training.sampling import MODEL_TAG, SampledSubnet, step_generator


@dataclass(frozen=True, slots=True)
class RankBatch:
    """What one rank does in a step."""

    rank: int
    sampled: Sequence[SampledSubnet]
    images: Tensor
    """`(N / ranks, C, H, W)`"""
    labels: Tensor
    """Targets of the task: `(N / ranks,)`, or `(N / ranks, outputs)`."""


class Step(ABC):
    """Performs the optimiser steps of one training and holds the optimiser's state."""

    @abstractmethod
    def run(
        self, number: int, sampled: Sequence[SampledSubnet], images: Tensor, labels: Tensor, lr_scale: float
    ) -> Tensor:
        """One optimiser step on `images (N, C, H, W)` and their targets, the peak learning rates times `lr_scale`.

        Returns:
            `(2,)`: mean loss in nats and norm of the gradient before clipping, on the device (not synchronised).
        """

    @abstractmethod
    def run_ranks(
        self, number: int, batches: Sequence[RankBatch], communicator: Communicator, lr_scale: float
    ) -> Tensor:
        """One optimiser step on the mean gradient of all ranks, of which this process carries out `batches`.

        Every process carries out equally many, and calls this for the same step.

        Returns:
            As `run`, over all ranks.
        """

    @abstractmethod
    def recompute(self) -> None:
        """From the next step on, compute the activations of the model's blocks again in the backward pass."""

    @abstractmethod
    def forget(self, names: Sequence[str]) -> None:
        """Drop the moments of some parameters, which have been initialised again."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """The optimiser's state as named tensors: `<parameter>/<moment>`."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore a copy of a result of `state`, of any kind of step."""


def drop_probabilities(model: nn.Module) -> dict[str, float]:
    """Module name → probability, of every module that drops something in training mode.

    Known are torch's dropouts, timm's drop path and drop block (`drop_prob`) and its patch dropout (`prob`).
    """
    found: dict[str, float] = {}
    for name, module in model.named_modules():
        dropout = isinstance(module, nn.modules.dropout._DropoutNd)
        for attribute in ("drop_prob", "prob", *(("p",) if dropout else ())):
            value = getattr(module, attribute, None)
            if isinstance(value, (int, float)) and value > 0:
                found[name] = float(value)
    return found


@contextmanager
def model_randomness(
    enabled: bool, seed: int, step: int, index: int, device: torch.device, rank: int = 0
) -> Iterator[None]:
    """Seed torch's global generators for the forward pass of a step's `index`-th subnet, and restore them afterwards.

    Dropout and drop path draw from the global generators and accept no other, so these are seeded from
    (seed, step, index, rank) for the duration of the pass.
    """
    if not enabled:
        yield
        return
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(step_generator(seed, step, MODEL_TAG + index, rank).integers(2**62)))
        yield
