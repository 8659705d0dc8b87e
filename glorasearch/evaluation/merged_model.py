"""The plain backbone into which candidate after candidate is merged."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from glorasearch.errors import OutOfMemoryError, first_sentence
from glorasearch.space import BoundSpace, Subnet

_log = logging.getLogger(__name__)
_halved = False
"""Whether this process has reported that it scores in halves."""


class MergedModel(ABC):
    """A plain backbone on a device that holds the merged weights of one candidate at a time.

    Neither `write` nor `forward` waits for the device, so work may be queued well ahead of it. Both are called in
    inference mode.
    """

    device: torch.device
    _space: BoundSpace
    dtype: torch.dtype = torch.float32
    """Of the images that it takes."""

    def prepare(self, subnet: Subnet) -> None:
        """Do what can be done for a candidate on the host, before it is written.

        Raises:
            SearchSpaceError: if the subnet is not of the space.
        """
        self._space.check(subnet)

    @abstractmethod
    def refresh(self) -> None:
        """Take over the supernet's current weights."""

    @abstractmethod
    def write(self, subnet: Subnet) -> None:
        """Merge a candidate's weights into the model.

        Raises:
            SearchSpaceError: if the subnet is not of the space; the model is unchanged then.
        """

    def forward(self, images: Tensor) -> Tensor:
        """Images `(n, C, H, W)` of `dtype`, normalised, on the device, to logits `(n, classes)` float32.

        All calls have the same n. The logits may be a buffer that the next call overwrites. If the device runs out of
        memory, the images are processed in two halves.

        Raises:
            OutOfMemoryError: if half of the images do not fit either.
        """
        try:
            return self._forward(images)
        except torch.OutOfMemoryError as error:
            reason = first_sentence(error)
        # Outside the handler nothing refers to the frames of the failed attempt, nor to the tensors they held.
        return self._forward_in_halves(images, reason)

    @abstractmethod
    def _forward(self, images: Tensor) -> Tensor:
        """All images at once; raises `torch.OutOfMemoryError`."""

    def _forward_part(self, images: Tensor) -> Tensor:
        """Some of the images; the logits belong to the caller."""
        return self._forward(images)

    def _forward_in_halves(self, images: Tensor, reason: str) -> Tensor:
        global _halved
        if not _halved:
            _halved = True
            _log.warning("%d images at once: %s; such chunks are scored in two halves", len(images), reason)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            return torch.cat([self._forward_part(half) for half in images.tensor_split(2) if len(half)])
        except torch.OutOfMemoryError as error:
            again = first_sentence(error)
        raise OutOfMemoryError(
            f"out of memory on {self.device} with {len(images)} images at once, and with half of them: {again}. Use "
            "fewer workers on a GPU, or a smaller search.eval_batch_size"
        )
