"""The scale of targets that are numbers: they are learnt with mean 0 and deviation 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True)
class Standard:
    """By which targets are standardised: minus `mean`, divided by `std`, those of the training images."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, targets: npt.NDArray[Any]) -> Self:
        """That of targets `(N, targets)`; the deviation of targets that are all alike is taken as 1."""
        numbers = targets.astype(np.float64)
        std = np.where(np.ptp(numbers, axis=0) > 0, numbers.std(0), 1.0)
        return cls(tuple(numbers.mean(0).tolist()), tuple(std.tolist()))

    def of_outputs(self, outputs: Tensor) -> Tensor:
        """`(..., targets)` in the targets' own units, standardised."""
        mean, std = self._columns(outputs)
        return (outputs.double() - mean) / std

    def undone(self, outputs: Tensor) -> Tensor:
        """The inverse."""
        mean, std = self._columns(outputs)
        return outputs.double() * std + mean

    def _columns(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(each, dtype=torch.float64, device=outputs.device) for each in (self.mean, self.std))
        return mean, std
