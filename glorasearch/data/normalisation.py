"""Pixels to the numbers that a model takes."""

from __future__ import annotations

import torch
from torch import Tensor

from glorasearch.data.input_spec import InputSpec


class Normalisation:
    """Scales uint8 pixels to 0 to 1, subtracts the mean and divides by the standard deviation of each channel."""

    def __init__(self, spec: InputSpec) -> None:
        """The mean and deviation of a backbone's input; they are kept on each device that asks for them."""
        self._spec = spec
        self._constants: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def __call__(self, pixels: Tensor) -> Tensor:
        """`(N, C, H, W)` float32 on the device of the pixels, `(N, C, H, W)` uint8."""
        images = pixels.to(torch.float32).div_(255)
        if images.device not in self._constants:
            mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self._spec.mean, self._spec.std))
            self._constants[images.device] = mean.to(images.device), std.to(images.device)
        mean, std = self._constants[images.device]
        return images.sub_(mean).div_(std)
