"""Batches of a training: the images and targets of a step, augmented as its recipe says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from glorasearch.data import TrainSplit
from glorasearch.training.augment.augmenter import Augmenter
from glorasearch.training.augment.config import Augmentation
from glorasearch.training.augment.draws import Draws, draw
from glorasearch.training.augment.policy import Ints
from glorasearch.training.sampling import AUGMENT_TAG, step_generator


class AugmentedBatches:
    """Images and targets of steps; each step is drawn from (seed, step) alone, for all images of its batch.

    So a resumed training sees the same images, and so do processes that share the ranks of a step.
    """

    def __init__(self, augmentation: Augmentation, split: TrainSplit) -> None:
        self._augmentation, self._split = augmentation, split
        self._augmenter = Augmenter(augmentation, split)

    @classmethod
    def of(cls, augmentation: Augmentation, split: TrainSplit) -> Self | None:
        """None if nothing is augmented."""
        return cls(augmentation, split) if augmentation.changes else None

    @property
    def facts(self) -> dict[str, Any]:
        """What the images depend on besides recipe and split."""
        return {"crops_from": "larger" if self._split.has_larger and self._augmentation.crops else "plain"}

    def draws(self, seed: int, step: int, images: int) -> Draws:
        """The draws of a step."""
        return draw(self._augmentation, step_generator(seed, step, AUGMENT_TAG), images)

    def rank(
        self, seed: int, step: int, indices: Tensor, rank: int, ranks: int, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """What one rank sees in a step.

        Args:
            seed: of the training.
            step: its number.
            indices: `(B,)`, the images of all ranks.
            rank: whose part it is.
            ranks: among how many the step is shared.
            device: of the result.

        Returns:
            Images `(B / ranks, C, H, W)`, and labels `(B / ranks,)`, or probabilities `(B / ranks, classes)` of images
            that may be mixed with others of the step.
        """
        chosen = np.arange(len(indices)).reshape(ranks, -1)[rank]
        return self._batch(indices, self.draws(seed, step, len(indices)), chosen, len(indices), device)

    def members(self, seeds: Sequence[int], step: int, indices: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Images `(M · B, C, H, W)` and targets `(M · B,)` or `(M · B, classes)` of M trainings with a seed each.

        `indices` are `(M, B)`.
        """
        count, images = indices.shape
        draws = Draws.cat([self.draws(seed, step, images) for seed in seeds])
        return self._batch(indices.flatten(), draws, np.arange(count * images), images, device)

    def images(self, seeds: Sequence[int], step: int, indices: Sequence[Tensor], device: torch.device) -> list[Tensor]:
        """As `members`, without mixing: images for each of several lists of `(M, B)`, by the same draws."""
        draws = Draws.cat([self.draws(seed, step, indices[0].shape[1]) for seed in seeds])
        return [self._augmenter.images(one.flatten(), draws, device) for one in indices]

    def _batch(
        self, indices: Tensor, draws: Draws, chosen: Ints, batch: int, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """The `chosen` images of batches of equal size; those of a batch are mixed with each other, last with first."""
        labels = self._split.labels_on(device)
        own = torch.from_numpy(chosen)
        images = self._augmenter.images(indices[own], draws.rows(chosen), device)
        targets = labels[_to(indices[own], device)]
        if not self._augmentation.mixes:
            return images, targets
        partner = chosen // batch * batch + (batch - 1 - chosen % batch)
        if len(chosen) == len(indices):
            others = images.view(-1, batch, *images.shape[1:]).flip(1).reshape(images.shape)
        else:
            others = self._augmenter.images(indices[torch.from_numpy(partner)], draws.rows(partner), device)
        answers = labels[_to(indices[torch.from_numpy(partner)], device)]
        return self._augmenter.mixed(images, others, targets, answers, draws.rows(chosen))


def _to(indices: Tensor, device: torch.device) -> Tensor:
    """Positions on a device; the copy does not block."""
    return indices if device.type == "cpu" else indices.pin_memory().to(device, non_blocking=True)
