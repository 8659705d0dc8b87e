"""Dense gradients by torch's grouped products, whose lengths lie on the device: that of a layer that needs none is 0.

The tokens of a layer are cut into parts, whose products are added up, and reduced as those of convolutions are.
Predicted for ViT-B/16 with 64 images: cuBLAS stores the dense gradients of a block in 260 microseconds, the product's
kernel, which stores none, takes 440; of both 0.69 are needed. Less 0.35 ms for the reduction, and as much for the sums
of dy, which the kernel had for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch

TILE, PLACES = 128, 132
"""Outputs and inputs of a tile of the product, and tiles that a card computes at once."""
PARTS = 8
"""Of the tokens, at most."""


@contextmanager
def grouped() -> Iterator[None]:
    """Steps that are made here compute dense gradients so; on a CPU as ever."""
    if not torch.cuda.is_available():
        yield
        return
    import variant_grouped_kernels as kernels

    from glorasearch.fused import gradient_kernels

    with (
        patch.object(gradient_kernels, "_dense_gradient", kernels.dense_gradient),
        patch.object(gradient_kernels, "sum_tokens", kernels.sum_all_tokens),
    ):
        yield


def parts_of(outs: int, ins: int) -> int:
    """Into how many the tokens of a layer are cut, so that its tiles fill the card."""
    tiles = -(-outs // TILE) * -(-ins // TILE)
    return min(PARTS, max(1, round(PLACES / tiles)))


def ends_of(tokens: int, parts: int) -> list[int]:
    """Where each part ends: at a multiple of 64, the last one at the end."""
    each = -(-tokens // (64 * parts)) * 64
    return [min(tokens, each * (part + 1)) for part in range(parts)]
