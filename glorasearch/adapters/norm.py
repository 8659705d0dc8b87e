"""Norms that carry support tensors."""

from __future__ import annotations

from torch import nn

from glorasearch.adapters.layer import AdaptedLayer


class AdaptedNorm(AdaptedLayer):
    """A layer norm or group norm with support tensors: `y = w ⊙ normalised(x) + b`, channel by channel, with

        w = w0 + w0⊙A,    b = b0 + b0⊙D + E

    The weight is seen as `(channels, 1)`. There is nothing for a product to shift and nothing to see a prompt through,
    so a norm has no B and no C. SSF and BitFit adapt norms; GLoRA does not. A norm without a weight is not adaptable.
    """

    base: nn.LayerNorm | nn.GroupNorm
