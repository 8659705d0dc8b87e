"""Classes with unequally many images: drawn equally often, or weighted in the loss."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from glorasearch.data import TrainSplit
from glorasearch.training.config import TrainingConfig


def balanced_epoch(labels: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """`(N,)` positions of images with labels `(N,)`, every class equally often, to one image.

    The images of a class are taken in turn: none a second time before all have been taken.
    """
    classes = rng.permutation(np.unique(labels))
    taken = []
    for number, one in enumerate(classes):
        own = np.flatnonzero(labels == one)
        count = len(labels) // len(classes) + (number < len(labels) % len(classes))
        rounds = [rng.permutation(own) for _ in range(-(-count // len(own)))]
        taken.append(np.concatenate([own[:0], *rounds])[:count])
    return rng.permutation(np.concatenate(taken))


def class_weights(targets: Tensor, classes: int) -> Tensor:
    """`(classes,)` float32: weights under which all classes count alike, whose mean over the images is 1.

    Of labels `(N,)` or probabilities `(N, classes)`; a class without images has weight 1.
    """
    shares = (F.one_hot(targets, classes) if targets.ndim == 1 else targets).double().sum(0)
    known = shares > 0
    weights = torch.ones_like(shares)
    weights[known] = shares.sum() / (known.sum() * shares[known])
    return weights.float()


def loss_weights(config: TrainingConfig, data: TrainSplit, device: torch.device) -> Tensor | None:
    """The weights of classes in the loss of a training on a split; None if it has none."""
    return class_weights(data.labels, data.classes).to(device) if config.balance == "loss" else None


def image_weights(targets: Tensor, weights: Tensor) -> Tensor:
    """The weights of images by those of classes `(..., classes)`.

    Of labels `(..., N)` or probabilities `(..., N, classes)`: `(..., N)`.
    """
    if targets.ndim == weights.ndim:
        return weights.gather(-1, targets)
    return (targets.to(weights.dtype) * weights.unsqueeze(-2)).sum(-1)
