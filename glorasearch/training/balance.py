"""Classes with unequally many images: drawn equally often, or weighted in the loss."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from glorasearch.data import TrainSplit
from glorasearch.errors import ConfigError
from glorasearch.tasks import Task
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
    """The weights of classes in the loss of a training on a split; None if it has none.

    Raises:
        ConfigError: if images are of no one class.
    """
    check_balance(config, data.task)
    return class_weights(data.labels, data.classes).to(device) if config.balance == "loss" else None


def drawn_labels(config: TrainingConfig, data: TrainSplit) -> Tensor | None:
    """The labels by which the images of a training are drawn; None if they are drawn as they are.

    Raises:
        ConfigError: if images are of no one class.
    """
    check_balance(config, data.task)
    return data.labels if config.balance == "sampler" else None


def check_balance(config: TrainingConfig, task: Task) -> None:
    """Raise `ConfigError` if classes are to be balanced, and images are of no one class."""
    if config.balance != "none" and not task.exclusive:
        raise ConfigError(
            f"balance is {config.balance!r}, but images with several labels are of no one class: leave it out"
        )
