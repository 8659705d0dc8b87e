"""The order in which images are seen: a pure function of seed and step."""

from __future__ import annotations

import torch
from torch import Tensor

from glorasearch.training.paths import ORDER_TAG, step_generator


class BatchOrder:
    """Full batches from an endless stream of shuffled epochs; a batch may reach over the end of an epoch.

    The batch of a step is computed from the step, so the position in the data need not be stored to resume.
    """

    def __init__(self, images: int, batch_size: int, seed: int) -> None:
        self._images, self._seed = images, seed
        self.batch_size = batch_size
        self._epochs: dict[int, Tensor] = {}

    def indices(self, step: int) -> Tensor:
        """Indices `(batch_size,)` of the images of a step, counted from 0."""
        start = step * self.batch_size
        parts: list[Tensor] = []
        missing = self.batch_size
        while missing:
            epoch, offset = divmod(start, self._images)
            part = self._epoch(epoch)[offset : offset + missing]
            parts.append(part)
            start += len(part)
            missing -= len(part)
        return torch.cat(parts)

    def share(self, step: int, rank: int, ranks: int) -> Tensor:
        """The indices of a step that one of its ranks sees, `(batch_size / ranks,)`."""
        return self.indices(step).chunk(ranks)[rank]

    def epoch(self, step: int) -> float:
        """Epochs seen before a step."""
        return step * self.batch_size / self._images

    def _epoch(self, epoch: int) -> Tensor:
        if epoch not in self._epochs:
            self._epochs = {known: order for known, order in self._epochs.items() if known == epoch - 1}
            order = step_generator(self._seed, epoch, ORDER_TAG).permutation(self._images)
            self._epochs[epoch] = torch.from_numpy(order)
        return self._epochs[epoch]
