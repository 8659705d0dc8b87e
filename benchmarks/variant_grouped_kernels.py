"""The launches of `variant_grouped`; Triton is there where CUDA is."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from variant_grouped import ends_of, parts_of

from glorasearch.fused import gradient_kernels
from glorasearch.fused.convolution_kernels import REDUCE_TILE
from glorasearch.fused.gradient_kernels import DENSE_TILE, _row_sums, at_most, columns_of, into_factors
from glorasearch.fused.gradients import Bases
from glorasearch.fused.kernel_layout import DENSE, SHIFTED
from glorasearch.fused.layout import DENSE as DENSE_COLUMN
from glorasearch.fused.layout import Shape

_sum_tokens = gradient_kernels.sum_tokens


@triton.jit
def _reduce_parts(
    found, base, factors, plan, grad, bases_left, bases_right, outs, ins, PARTS: tl.constexpr, RA: tl.constexpr,
    RB: tl.constexpr, TA: tl.constexpr, TB: tl.constexpr, ENTRIES: tl.constexpr, BO: tl.constexpr, BI: tl.constexpr,
    BN: tl.constexpr,
):  # fmt: skip
    """A tile of G, the sum of its parts `found (PARTS, out, in)`, reduced into the factors' gradients."""
    if tl.load(plan + DENSE) == 0:
        return
    o = tl.program_id(0) * BO + tl.arange(0, BO)
    i = tl.program_id(1) * BI + tl.arange(0, BI)
    both = (o < outs)[:, None] & (i < ins)[None, :]
    at = found + o[:, None].to(tl.int64) * ins + i[None, :]
    g = tl.zeros((BO, BI), tl.float32)
    for _ in tl.static_range(PARTS):
        g += tl.load(at, mask=both, other=0.0).to(tl.float32)
        at += outs * ins
    dtype: tl.constexpr = found.dtype.element_ty
    into_factors(
        g, base, factors, plan, grad, bases_left, bases_right, o, i, outs, ins, dtype, RA, RB, TA, TB, ENTRIES, BN
    )


@triton.jit
def _rows(x, sums, plan, tokens, ins, BN: tl.constexpr, BI: tl.constexpr):
    """The sums of the rows of x for a layer that needs them in place of G."""
    if tl.load(plan + DENSE) == 0:  # noqa: SIM102 - the language has no `and` of what is loaded
        if tl.load(plan + SHIFTED) != 0:
            _row_sums(x, sums, tokens, ins, BN, BI)


@functools.cache
def _ends(tokens: int, parts: int, device: torch.device) -> Tensor:
    return torch.tensor(ends_of(tokens, parts), dtype=torch.int32, device=device)


def dense_gradient(
    dy: Tensor,
    x: Tensor,
    base: Tensor,
    factors: Tensor,
    plan: Tensor,
    grad: Tensor,
    sums: Tensor,
    shape: Shape,
    bases: Bases,
) -> None:
    """In place of the product's, with its arguments."""
    tokens, (outs, ins) = len(dy), base.shape
    parts = parts_of(outs, ins)
    offsets = _ends(tokens, parts, dy.device) * (plan[DENSE_COLUMN] != 0)
    found = F.grouped_mm(dy.T, x, offs=offsets)
    tile_o, tile_i = (at_most(size, length) for size, length in zip(REDUCE_TILE, (outs, ins), strict=True))
    _reduce_parts[(triton.cdiv(outs, tile_o), triton.cdiv(ins, tile_i))](
        found, base, factors, plan, grad, *bases, outs, ins, PARTS=parts, RA=shape.scale_rank, RB=shape.shift_rank,
        ENTRIES=shape.entries, BO=tile_o, BI=tile_i, BN=DENSE_TILE[2], num_warps=4, **columns_of(shape),
    )  # fmt: skip
    _rows[(264,)](x, sums, plan, tokens, ins, BN=32, BI=128, num_warps=4)


def sum_all_tokens(dy: Tensor, y: Tensor, sums: Tensor, plan: Tensor | None, grad: Tensor) -> None:
    """In place of the product's: dy is summed for layers that need G, too."""
    if plan is not None:
        plan = torch.where(plan[DENSE_COLUMN] != 0, torch.zeros_like(plan), plan)
    _sum_tokens(dy, y, sums, plan, grad)
