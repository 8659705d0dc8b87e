"""One adapter of a server as a module, for code that takes models."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class ServedModel(nn.Module):
    """Asks a server, given as a function of digest and images; any thread may call it."""

    def __init__(self, server: Callable[[str, Tensor], Tensor], digest: str, device: torch.device) -> None:
        super().__init__()
        self._ask, self._digest = server, digest
        self.place = nn.Parameter(torch.empty(0, device=device), requires_grad=False)
        """Says on which device it is, as the parameters of models do."""

    def forward(self, images: Tensor) -> Tensor:
        """Images `(N, C, H, W)` to logits `(N, classes)`."""
        return self._ask(self._digest, images)
