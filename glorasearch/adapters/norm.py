"""Norms that carry support tensors."""

from __future__ import annotations

from torch import Tensor, nn
from torch.func import functional_call

from glorasearch.adapters.layer import AdaptedLayer


class AdaptedNorm(AdaptedLayer):
    """A layer norm or group norm with support tensors: `y = w ⊙ normalised(x) + b`, channel by channel, with

        w = w0 + w0⊙A,    b = b0 + b0⊙D + E

    The weight is seen as `(channels, 1)`. There is nothing for a product to shift and nothing to see a prompt through,
    so a norm has no B and no C. SSF and BitFit adapt norms; GLoRA does not. A norm without a weight is not adaptable.
    """

    base: nn.LayerNorm | nn.GroupNorm

    def _run(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The base's own forward with another weight and bias, whatever its layout and precision."""
        given = {"weight": weight.squeeze(1)} | ({} if bias is None else {"bias": bias})
        result: Tensor = functional_call(self.base, given, (x,))
        return result
