"""The one plain backbone into which candidate after candidate is written."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from glorasearch.errors import EvaluationError
from glorasearch.evaluation.layer_writer import LayerWriter
from glorasearch.space import BoundSpace, Subnet
from glorasearch.supernet import Supernet

_log = logging.getLogger(__name__)
_halved = False
"""Whether this process has said that it does with less memory."""


class Resident(ABC):
    """A plain backbone on a device that is one candidate at a time.

    Neither method waits for the device, so that its work may be queued well ahead of it. Both are called in inference
    mode.
    """

    device: torch.device
    _space: BoundSpace
    dtype: torch.dtype = torch.float32
    """Of the images that it wants."""

    def prepare(self, subnet: Subnet) -> None:
        """Get ready to write a candidate later, on the host alone.

        Raises:
            SearchSpaceError: if the subnet is not of the space.
        """
        self._space.check(subnet)

    @abstractmethod
    def refresh(self) -> None:
        """Take the supernet's weights as they are now, and the candidates' weights from them."""

    @abstractmethod
    def write(self, subnet: Subnet) -> None:
        """Become this candidate.

        Raises:
            SearchSpaceError: if the subnet is not of the space; the resident stays what it was.
        """

    def forward(self, images: Tensor) -> Tensor:
        """Images `(n, C, H, W)` of `dtype`, normalised, on the device, to logits `(n, classes)` float32.

        All calls are made with the same n. The logits may be a buffer that the next call overwrites. Where the device's
        memory is not enough for the images at once, they are done in two halves.

        Raises:
            EvaluationError: if it is not enough for half of them either.
        """
        try:
            return self._forward(images)
        except torch.OutOfMemoryError as error:
            reason = _first_line(error)
        # From here on nothing refers to the frames of the attempt that failed, nor to what they held.
        return self._forward_in_halves(images, reason)

    @abstractmethod
    def _forward(self, images: Tensor) -> Tensor:
        """All images at once; raises `torch.OutOfMemoryError`."""

    def _forward_part(self, images: Tensor) -> Tensor:
        """Some of the images at once; the logits are the caller's."""
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
            again = _first_line(error)
        raise EvaluationError(
            f"out of memory on {self.device} with {len(images)} images at once, and with half of them: {again}. Use "
            "fewer workers on a GPU, or a smaller search.eval_batch_size"
        )


class EagerResident(Resident):
    """Runs layer by layer, in float32 or under bfloat16 autocast, on any device.

    The merged weights are those that the supernet has when a candidate is written; only layers whose choices differ
    from the candidate before are written, so they must not change in between.
    """

    def __init__(self, supernet: Supernet, device: torch.device | str, *, mixed: bool = False) -> None:
        self.device, self._mixed = torch.device(device), mixed
        self._supernet, self._space = supernet, supernet.space
        self._build()

    def refresh(self) -> None:
        """Build everything anew."""
        self._build()

    def _build(self) -> None:
        supernet, device = self._supernet, self.device
        model = supernet.merged(supernet.space.largest(), biased=supernet.gains_bias())
        self._model = model.to(device).requires_grad_(False)
        self._share_frozen()
        self._layers = {name: LayerWriter(layer, _plain(self._model, name)) for name, layer in supernet.adapted.items()}

    def _share_frozen(self) -> None:
        """Of parameters that no candidate changes the supernet's are enough."""
        frozen = self._supernet.frozen_state()
        for name, parameter in self._model.named_parameters():
            given = frozen.get(name)
            if given is not None and name.rpartition(".")[0] not in self._supernet.adapted:
                parameter.data = given

    def write(self, subnet: Subnet) -> None:
        """Write the merged weights of the layers whose choices changed."""
        self._space.check(subnet)
        for name, layer in self._layers.items():
            layer.write(subnet.layer(name))

    def _forward(self, images: Tensor) -> Tensor:
        """The plain forward."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._mixed):
            logits: Tensor = self._model(images)
        return logits.float()


def _first_line(error: Exception) -> str:
    """The first sentence of a message that goes on about allocators."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].partition(". ")[0]


def _plain(model: nn.Module, name: str) -> nn.Linear | nn.Conv2d:
    module = model.get_submodule(name)
    assert isinstance(module, (nn.Linear, nn.Conv2d))
    return module
