"""The Triton kernels of the gradient of a spatial convolution's factors; `gradients` has the equations in plain torch.

Activations have their channels last, so they are tokens: `dy (tokens, out)`, and `x` the pixels that filters read.
The dense gradient is cuDNN's, which knows of no plan: it is computed whether it is needed or not. Kernels of our own
that skipped it took two to six times as long (docs/speed-notes.md).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from glorasearch.fused.geometry import Geometry
from glorasearch.fused.gradient_kernels import DENSE_TILE, at_most, columns_of, into_factors, sum_tokens
from glorasearch.fused.gradients import Bases
from glorasearch.fused.kernel_layout import DENSE
from glorasearch.fused.layout import Shape


@triton.jit
def _reduce_kernel(
    found, base, factors, plan, grad, bases_left, bases_right, outs, ins, dtype: tl.constexpr, TAPS: tl.constexpr,
    RA: tl.constexpr, RB: tl.constexpr, TA: tl.constexpr, TB: tl.constexpr, ENTRIES: tl.constexpr, BO: tl.constexpr,
    BI: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """A tile of G, which was stored with its channels last, reduced into the factors' gradients."""
    if tl.load(plan + DENSE) == 0:
        return
    o = tl.program_id(0) * BO + tl.arange(0, BO)
    i = tl.program_id(1) * BI + tl.arange(0, BI)
    both = (o < outs)[:, None] & (i < ins)[None, :]
    place = i % TAPS * (ins // TAPS) + i // TAPS
    g = tl.load(found + o[:, None].to(tl.int64) * ins + place[None, :], mask=both, other=0.0).to(tl.float32)
    into_factors(
        g, base, factors, plan, grad, bases_left, bases_right, o, i, outs, ins, dtype, RA, RB, TA, TB, ENTRIES, BN
    )


def convolution_factor_gradient(
    dy: Tensor,
    x: Tensor,
    filters: Tensor,
    base: Tensor,
    factors: Tensor,
    plan: Tensor,
    shape: Shape,
    geometry: Geometry,
    bases: Bases | None = None,
) -> Tensor:
    """The raw gradient `(width,)` of the factors: `gradients.convolution_gradient`, with its arguments.

    `dy` and `x` in one dtype; `base`, `factors` float32. As in `gradient_kernels`, sums are added in no fixed order.
    """
    dy, x, filters = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (dy, x, filters))
    found = geometry.weight_gradient(dy, x, filters).contiguous(memory_format=torch.channels_last)
    grad = torch.zeros_like(factors)
    reduce_stored(found, geometry.taps, base, factors, plan, grad, shape, bases)
    rows = dy.permute(0, 2, 3, 1).reshape(-1, shape.out_features)
    sum_tokens(rows, rows, rows, None, grad)
    return grad


def reduce_stored(
    found: Tensor,
    taps: int,
    base: Tensor,
    factors: Tensor,
    plan: Tensor,
    grad: Tensor,
    shape: Shape,
    bases: Bases | None,
) -> None:
    """Add what a stored G gives to `grad`, if the plan asks for it.

    `found`, in the activations' dtype, is `(out, taps, in / taps)` in memory, as filters with their channels last are.
    """
    outs, ins = base.shape
    left, right = bases or (base, base)
    tile_o, tile_i = (at_most(size, length) for size, length in zip(REDUCE_TILE, (outs, ins), strict=True))
    _reduce_kernel[(triton.cdiv(outs, tile_o), triton.cdiv(ins, tile_i))](
        found, base, factors, plan, grad, left, right, outs, ins, dtype=_TYPES[found.dtype], TAPS=taps,
        RA=shape.scale_rank, RB=shape.shift_rank, ENTRIES=shape.entries, BO=tile_o, BI=tile_i, BN=DENSE_TILE[2],
        num_warps=4, **columns_of(shape),
    )  # fmt: skip


_TYPES = {torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}
REDUCE_TILE = 64, 128
"""Outputs and inputs of a tile of a stored gradient."""
