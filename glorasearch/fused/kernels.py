"""The Triton kernels of the fused step; `gradients` has their equations in plain torch.

What a kernel does for a layer depends on the layer's row of the plan, which it reads from the device: a launch whose
work is not needed ends at once. So the sequence of launches is static and a CUDA graph can hold it, while its cost
follows the path that is drawn.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from glorasearch.fused.bank import Shape


@triton.jit
def _merge_kernel(
    base, factors, weight, outs, ins, width,
    RA: tl.constexpr, RB: tl.constexpr, BO: tl.constexpr, BI: tl.constexpr,
):  # fmt: skip
    layer, block, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    o = block * BO + tl.arange(0, BO)
    i = chunk * BI + tl.arange(0, BI)
    om, im = o < outs, i < ins
    row = factors + layer * width
    left = row + 3 * outs + o * (RA + RB)
    right = row + 3 * outs + outs * (RA + RB) + i
    scale = tl.load(row + o, mask=om, other=0.0)
    shift = tl.load(row + outs + o, mask=om, other=0.0)
    gain = tl.zeros((BO, BI), tl.float32) + 1.0 + scale[:, None]
    for k in tl.static_range(RA):
        gain += tl.load(left + k, mask=om, other=0.0)[:, None] * tl.load(right + k * ins, mask=im, other=0.0)[None, :]
    both = om[:, None] & im[None, :]
    place = layer * outs * ins + o[:, None].to(tl.int64) * ins + i[None, :]
    w = tl.load(base + place, mask=both, other=0.0) * gain + shift[:, None]
    for k in tl.static_range(RA, RA + RB):
        w += tl.load(left + k, mask=om, other=0.0)[:, None] * tl.load(right + k * ins, mask=im, other=0.0)[None, :]
    tl.store(weight + place, w.to(weight.dtype.element_ty), mask=both)


@triton.jit
def _gradient_kernel(
    dy, x, y, sums, base, factors, plan, grad, tokens, outs, ins,
    tiles_o, tiles_i, span, dense_programs, blocks, thin_span,
    RA: tl.constexpr, RB: tl.constexpr, T: tl.constexpr, BO: tl.constexpr, BI: tl.constexpr, BN: tl.constexpr,
    TO: tl.constexpr, TN: tl.constexpr,
):  # fmt: skip
    """The raw gradient of one layer's factors, added to `grad (width,)`.

    The first programs are tiles of the dense G; they end at once where the plan does not want it. The rest sum over the
    tokens; where both are wanted they fill the processors that the tiles leave idle.
    """
    program = tl.program_id(0)
    if program < dense_programs:
        if tl.load(plan) != 0:
            _dense_tile(
                dy, x, base, factors, grad, tokens, outs, ins, program, tiles_o, tiles_i, span, RA, RB, T, BO, BI, BN
            )
    else:
        program -= dense_programs
        _token_sums(
            dy,
            x,
            y,
            sums,
            plan,
            grad,
            tokens,
            outs,
            program % blocks,
            (program // blocks) * thin_span,
            thin_span,
            TO,
            TN,
        )


@triton.jit
def _dense_tile(
    dy, x, base, factors, grad, tokens, outs, ins, program, tiles_o, tiles_i, span,
    RA: tl.constexpr, RB: tl.constexpr, T: tl.constexpr, BO: tl.constexpr, BI: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """A tile `(BO, BI)` of G over `span` tokens, reduced into the factors' gradients at once; G is never stored.

    Programs that run together go through the same tokens, so that these are read from memory once.
    """
    split, tile = program // (tiles_o * tiles_i), program % (tiles_o * tiles_i)
    if tiles_i <= tiles_o:
        to, ti = tile // tiles_i, tile % tiles_i
    else:
        to, ti = tile % tiles_o, tile // tiles_o
    o = to * BO + tl.arange(0, BO)
    i = ti * BI + tl.arange(0, BI)
    om, im = o < outs, i < ins
    last = tl.minimum(split * span + span, tokens)
    acc = tl.zeros((BO, BI), tl.float32)
    for start in range(split * span, last, BN):
        n = start + tl.arange(0, BN)
        nm = n < last
        a = tl.load(dy + n[:, None].to(tl.int64) * outs + o[None, :], mask=nm[:, None] & om[None, :], other=0.0)
        b = tl.load(x + n[:, None].to(tl.int64) * ins + i[None, :], mask=nm[:, None] & im[None, :], other=0.0)
        acc = tl.dot(tl.trans(a), b, acc, input_precision="ieee")
    dtype: tl.constexpr = x.dtype.element_ty
    t = tl.arange(0, T)
    w = tl.load(base + o[:, None].to(tl.int64) * ins + i[None, :], mask=om[:, None] & im[None, :], other=0.0)
    left = 3 * outs + o[:, None] * (RA + RB) + t[None, :]
    right = 3 * outs + outs * (RA + RB)
    scaled = (acc * w).to(dtype)
    _reduce(scaled, factors, grad, grad, left, right, o, i, t, outs, ins, dtype, RA, T)
    _reduce(acc.to(dtype), factors, grad, grad + outs, left + RA, right + RA * ins, o, i, t, outs, ins, dtype, RB, T)


@triton.jit
def _reduce(
    g, factors, grad, total, left, right, o, i, t, outs, ins, dtype: tl.constexpr, R: tl.constexpr, T: tl.constexpr
):
    """Multiply `g (BO, BI)` by `[right; 1]ᵀ` and by `leftᵀ`: the gradients of `left`, of a row's `total`, of `right`."""
    om, im = o < outs, i < ins
    column = t[None, :] * ins + i[:, None]
    q = tl.load(factors + right + column, mask=(t < R)[None, :] & im[:, None], other=0.0)
    q = tl.where((t == R)[None, :] & im[:, None], 1.0, q)
    rows = tl.dot(g, q.to(dtype), input_precision="ieee")
    tl.atomic_add(grad + left, rows, mask=(t < R)[None, :] & om[:, None], sem="relaxed")
    at_total = total + o[:, None] + 0 * t[None, :]
    tl.atomic_add(at_total, rows, mask=(t == R)[None, :] & om[:, None], sem="relaxed")
    if R > 0:
        p = tl.load(factors + left, mask=(t < R)[None, :] & om[:, None], other=0.0).to(dtype)
        columns = tl.dot(tl.trans(p), g, input_precision="ieee")
        at = grad + right + t[:, None] * ins + i[None, :]
        tl.atomic_add(at, columns, mask=(t < R)[:, None] & im[None, :], sem="relaxed")


@triton.jit
def _token_sums(dy, x, y, sums, plan, grad, tokens, outs, block, first, span, TO: tl.constexpr, TN: tl.constexpr):
    """Over `span` tokens: the sum of dy; that of dy ⊙ y where A scales rows; dyᵀ·(x·1ᵀ) where B shifts them."""
    scaled, shifted = tl.load(plan + 1), tl.load(plan + 2)
    o = block * TO + tl.arange(0, TO)
    om = o < outs
    last = tl.minimum(first + span, tokens)
    total = tl.zeros((TN, TO), tl.float32)
    seen = tl.zeros((TN, TO), tl.float32)
    moved = tl.zeros((TN, TO), tl.float32)
    for start in range(first, last, TN):
        n = start + tl.arange(0, TN)
        nm = n < last
        place = n[:, None].to(tl.int64) * outs + o[None, :]
        a = tl.load(dy + place, mask=nm[:, None] & om[None, :], other=0.0).to(tl.float32)
        total += a
        if scaled != 0:
            seen += a * tl.load(y + place, mask=nm[:, None] & om[None, :], other=0.0).to(tl.float32)
        if shifted != 0:
            moved += a * tl.load(sums + n, mask=nm, other=0.0)[:, None]
    tl.atomic_add(grad + 2 * outs + o, tl.sum(total, 0), mask=om, sem="relaxed")
    if scaled != 0:
        tl.atomic_add(grad + o, tl.sum(seen, 0), mask=om, sem="relaxed")
    if shifted != 0:
        tl.atomic_add(grad + outs + o, tl.sum(moved, 0), mask=om, sem="relaxed")


@triton.jit
def _row_sums_kernel(x, plan, sums, tokens, ins, BN: tl.constexpr, BI: tl.constexpr):
    """`sums (tokens,)` of the rows of x, where B shifts rows."""
    if tl.load(plan + 2) == 0:
        return
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    acc = tl.zeros((BN, BI), tl.float32)
    for start in range(0, ins, BI):
        i = start + tl.arange(0, BI)
        mask = (n < tokens)[:, None] & (i < ins)[None, :]
        acc += tl.load(x + n[:, None].to(tl.int64) * ins + i[None, :], mask=mask, other=0.0).to(tl.float32)
    tl.store(sums + n, tl.sum(acc, 1), mask=n < tokens)


def merge_into(weight: Tensor, base: Tensor, factors: Tensor, shape: Shape) -> None:
    """Write W of every layer of a bank, `weight (L, out, in)` of any dtype, in one launch; see `gradients.merge`."""
    layers, outs, ins = base.shape
    block = (8, 256)
    grid = (layers, triton.cdiv(outs, block[0]), triton.cdiv(ins, block[1]))
    _merge_kernel[grid](
        base, factors, weight, outs, ins, factors.shape[1], RA=shape.scale_rank, RB=shape.shift_rank,
        BO=block[0], BI=block[1],
    )  # fmt: skip


def factor_gradient(
    dy: Tensor, x: Tensor, y: Tensor | None, base: Tensor, factors: Tensor, plan: Tensor, shape: Shape
) -> Tensor:
    """The raw gradient `(width,)` of one layer's factors; see `gradients.raw_gradient`.

    `dy (N, out)`, `x (N, in)` and, where it is kept, `y (N, out)` in one dtype; `base`, `factors` float32. Partial sums
    are added up in no fixed order, as cuDNN's attention does too: on a GPU no two runs are the same to the last bit.
    """
    dy, x = dy.contiguous(), x.contiguous()
    y = dy if y is None else y.contiguous()
    tokens, outs, ins = len(dy), shape.out_features, shape.in_features
    tile_o, tile_i, tile_n = DENSE_TILE
    tiles_o, tiles_i = triton.cdiv(outs, tile_o), triton.cdiv(ins, tile_i)
    splits, span = _splits(tokens, tiles_o * tiles_i, tile_n)
    dense_programs = splits * tiles_o * tiles_i
    thin_o, thin_n = THIN_TILE
    blocks = triton.cdiv(outs, thin_o)
    thin_splits = max(1, 2 * PROCESSORS // blocks)
    thin_span = triton.cdiv(triton.cdiv(tokens, thin_splits), thin_n) * thin_n
    thin_programs = blocks * triton.cdiv(tokens, thin_span)
    sums = torch.empty(tokens, dtype=torch.float32, device=dy.device)
    _row_sums_kernel[(triton.cdiv(tokens, 16),)](x, plan, sums, tokens, ins, BN=16, BI=256, num_warps=4)
    grad = torch.zeros_like(factors)
    columns = max(LEAST_COLUMNS, triton.next_power_of_2(max(shape.scale_rank, shape.shift_rank) + 1))
    _gradient_kernel[(dense_programs + thin_programs,)](
        dy, x, y, sums, base, factors, plan, grad, tokens, outs, ins, tiles_o, tiles_i, span, dense_programs, blocks,
        thin_span, RA=shape.scale_rank, RB=shape.shift_rank, T=columns, BO=tile_o, BI=tile_i, BN=tile_n, TO=thin_o,
        TN=thin_n, num_warps=8, num_stages=4,
    )  # fmt: skip
    return grad


DENSE_TILE = 128, 128, 64
"""Outputs, inputs and tokens of a tile of the dense gradient."""
THIN_TILE = 64, 128
"""Outputs and tokens of a tile of the sums over tokens."""
LEAST_COLUMNS = 16
"""Fewest columns that a tensor core multiplies by: the ranks and a one are padded to them."""
PROCESSORS = 132
"""Multiprocessors that a launch is spread over (an H100 has 132); only the speed depends on it."""
ENOUGH = 0.8
"""A launch that keeps this share of the processors busy until its end is not cut any finer."""


def _splits(tokens: int, tiles: int, block: int, most: int = 8) -> tuple[int, int]:
    """Into how many parts to cut the tokens so that the tiles fill the processors evenly, and the tokens of a part."""
    best, even = 1, 0.0
    for splits in range(1, max(1, min(most, tokens // (4 * block))) + 1):
        programs = tiles * splits
        share = programs / (-(-programs // PROCESSORS) * PROCESSORS)
        if share > even + 0.05 and even < ENOUGH:
            best, even = splits, share
    span = -(-tokens // (best * block)) * block
    return -(-tokens // span), span
