"""What every kind of training step has in common: interface, losses, randomness inside the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glorasearch.training.balance import image_weights
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
    """`(N / ranks,)`"""


class Step(ABC):
    """Performs the optimiser steps of one training and holds the optimiser's state."""

    @abstractmethod
    def run(
        self, number: int, sampled: Sequence[SampledSubnet], images: Tensor, labels: Tensor, lr_scale: float
    ) -> Tensor:
        """One optimiser step on `images (N, C, H, W)` and `labels (N,)`, the peak learning rates times `lr_scale`.

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
    def forget(self, names: Sequence[str]) -> None:
        """Drop the moments of some parameters, which have been initialised again."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """The optimiser's state as named tensors: `<parameter>/<moment>`."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore a copy of a result of `state`, of any kind of step."""


def label_loss(logits: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of `(N, classes)` logits against `(N,)` labels, with label smoothing; a scalar in nats.

    With `weights`, `(classes,)`, each image's is multiplied by that of its class before the mean is taken.
    """
    if weights is None:
        return F.cross_entropy(_at_least_float32(logits), labels, label_smoothing=smoothing)
    each = F.cross_entropy(_at_least_float32(logits), labels, label_smoothing=smoothing, reduction="none")
    return (each * image_weights(labels, weights)).mean()


def distillation_loss(logits: Tensor, teacher: Tensor) -> Tensor:
    """Mean cross-entropy of `(N, classes)` logits against the teacher's softmax `(N, classes)`; a scalar in nats."""
    return -(teacher * F.log_softmax(_at_least_float32(logits), dim=-1)).sum(-1).mean()


def teacher_of(logits: Tensor) -> Tensor:
    """The target of distillation: the softmax of `(N, classes)` logits, without a gradient."""
    return _at_least_float32(logits.detach()).softmax(-1)


def subnet_loss(
    logits: Tensor, labels: Tensor, teacher: Tensor | None, *, smoothing: float, weights: Tensor | None = None
) -> Tensor:
    """The loss of one subnet of a step: against the teacher if there is one, else against the labels."""
    return label_loss(logits, labels, smoothing, weights) if teacher is None else distillation_loss(logits, teacher)


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


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
