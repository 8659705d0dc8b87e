"""The batches of a training: which images a step sees, and how they are augmented."""

from __future__ import annotations

import torch
from torch import Tensor

from glorasearch.data import TrainSplit
from glorasearch.training.augment import AugmentedBatches
from glorasearch.training.balance import drawn_labels
from glorasearch.training.config import TrainingConfig
from glorasearch.training.sampling import BatchOrder


class TrainingBatches:
    """The images and targets of every step and rank: a pure function of recipe, split and step."""

    def __init__(self, config: TrainingConfig, data: TrainSplit) -> None:
        self._config, self._data = config, data
        self._order = BatchOrder(len(data), config.batch_size, config.seed, drawn_labels(config, data))
        self._augmented = AugmentedBatches.of(config.augmentation, data)
        self.facts = {} if self._augmented is None else self._augmented.facts
        """What the images depend on besides recipe and split."""

    def some(self, device: torch.device) -> Tensor:
        """`(2, C, H, W)`: images of the first step, not augmented."""
        return self._data.batch(self._order.indices(0)[:2], device)[0]

    def rank(self, step: int, rank: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Images `(n, C, H, W)` of a rank, n = B / ranks, and targets, `(n,)` or `(n, classes)`."""
        config, indices = self._config, self._order.indices(step)
        if self._augmented is None:
            return self._data.batch(indices.chunk(config.ranks)[rank], device)
        return self._augmented.rank(config.seed, step, indices, rank, config.ranks, device)
