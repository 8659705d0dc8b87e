"""The Triton kernels of the gradient of a layer's factors; `gradients` has their equations in plain torch.

What a kernel does for a layer depends on the layer's row of the plan, as in `merge_kernels`.
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from glorasearch.fused.gradients import Bases
from glorasearch.fused.kernel_layout import BIAS, DENSE, SCALED, SHIFT, SHIFTED, SPECTRAL, left_row, right_start
from glorasearch.fused.layout import Shape

COUNTS = ["tokens", "tiles_o", "tiles_i", "span"]
"""Arguments that are no strides: a kernel is not compiled again for each kind of them (1, or divisible by 16)."""


@triton.jit
def _tile(
    dy, x, o, i, om, im, first, last, outs, ins,
    SUMS: tl.constexpr, BO: tl.constexpr, BI: tl.constexpr, BN: tl.constexpr, LEAST: tl.constexpr,
):  # fmt: skip
    """A tile `(BO, BI)` of dyᵀ·x over some tokens, and the sum of dy as the columns `(BO, LEAST)` of a product."""
    acc = tl.zeros((BO, BI), tl.float32)
    total = tl.zeros((BO, LEAST), tl.float32)
    for start in range(first, last, BN):
        n = start + tl.arange(0, BN)
        nm = n < last
        a = tl.load(dy + n[:, None].to(tl.int64) * outs + o[None, :], mask=nm[:, None] & om[None, :], other=0.0)
        b = tl.load(x + n[:, None].to(tl.int64) * ins + i[None, :], mask=nm[:, None] & im[None, :], other=0.0)
        acc = tl.dot(tl.trans(a), b, acc, input_precision="ieee")
        if SUMS:
            total = tl.dot(tl.trans(a), tl.full((BN, LEAST), 1.0, a.dtype), total, input_precision="ieee")
    return acc, total


@triton.jit(do_not_specialize=COUNTS)
def _dense_kernel(
    dy, x, base, factors, plan, grad, sums, bases_left, bases_right, tokens, outs, ins, tiles_o, tiles_i, span,
    RA: tl.constexpr, RB: tl.constexpr, TA: tl.constexpr, TB: tl.constexpr, ENTRIES: tl.constexpr, BO: tl.constexpr,
    BI: tl.constexpr, BN: tl.constexpr, LEAST: tl.constexpr,
):  # fmt: skip
    """A tile `(BO, BI)` of G over `span` tokens, reduced into the factors' gradients at once; G is never stored.

    Programs that run together process the same tokens, so that these are read from memory once. The first tile of every
    row of tiles also sums dy. If a layer does not need G, the rows of its inputs are summed here, if needed.
    """
    if tl.load(plan + DENSE) == 0:
        if tl.load(plan + SHIFTED) != 0:
            _row_sums(x, sums, tokens, ins, BN, BI)
        return
    split, tile = tl.program_id(0) // (tiles_o * tiles_i), tl.program_id(0) % (tiles_o * tiles_i)
    if tiles_i <= tiles_o:
        to, ti = tile // tiles_i, tile % tiles_i
    else:
        to, ti = tile % tiles_o, tile // tiles_o
    o = to * BO + tl.arange(0, BO)
    i = ti * BI + tl.arange(0, BI)
    om, im = o < outs, i < ins
    first = split * span
    last = tl.minimum(first + span, tokens)
    if ti == 0:
        acc, total = _tile(dy, x, o, i, om, im, first, last, outs, ins, True, BO, BI, BN, LEAST)
        column = tl.arange(0, LEAST)[None, :]
        at_bias = grad + outs * BIAS + o[:, None] + 0 * column
        tl.atomic_add(at_bias, total, mask=om[:, None] & (column == 0), sem="relaxed")
    else:
        acc, total = _tile(dy, x, o, i, om, im, first, last, outs, ins, False, BO, BI, BN, LEAST)
    dtype: tl.constexpr = x.dtype.element_ty
    into_factors(
        acc, base, factors, plan, grad, bases_left, bases_right, o, i, outs, ins, dtype, RA, RB, TA, TB, ENTRIES, BN
    )


@triton.jit
def into_factors(
    acc, base, factors, plan, grad, bases_left, bases_right, o, i, outs, ins, dtype: tl.constexpr, RA: tl.constexpr,
    RB: tl.constexpr, TA: tl.constexpr, TB: tl.constexpr, ENTRIES: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Add what a tile `acc` of G, at outputs `o` and inputs `i`, gives to the gradients of the factors."""
    om, im = o < outs, i < ins
    ta, tb = tl.arange(0, TA), tl.arange(0, TB)
    w = tl.load(base + o[:, None].to(tl.int64) * ins + i[None, :], mask=om[:, None] & im[None, :], other=0.0)
    columns: tl.constexpr = RA + RB
    left = left_row(outs, o[:, None], columns)
    right = right_start(outs, columns)
    scaled, plain = (acc * w).to(dtype), acc.to(dtype)
    _reduce(scaled, factors, grad, grad, left + ta[None, :], right, o, i, ta, outs, ins, dtype, RA, TA)
    left_b, right_b = left + RA + tb[None, :], right + RA * ins
    _reduce(plain, factors, grad, grad + outs * SHIFT, left_b, right_b, o, i, tb, outs, ins, dtype, RB, TB)
    if ENTRIES > 0:  # noqa: SIM102 - compiled only where there is a spectrum
        if tl.load(plan + SPECTRAL) != 0:
            at = grad + right + columns * ins
            for start in range(0, ENTRIES, BN):
                k = start + tl.arange(0, BN)
                km = k < ENTRIES
                q = tl.load(bases_right + k[None, :] * ins + i[:, None], mask=km[None, :] & im[:, None], other=0.0)
                rows = tl.dot(plain, q.to(dtype), input_precision="ieee")
                p = tl.load(bases_left + o[:, None] * ENTRIES + k[None, :], mask=km[None, :] & om[:, None], other=0.0)
                tl.atomic_add(at + k, tl.sum(rows * p, 0), mask=km, sem="relaxed")


@triton.jit
def _reduce(
    g, factors, grad, total, left, right, o, i, t, outs, ins, dtype: tl.constexpr, R: tl.constexpr, T: tl.constexpr
):
    """Multiply `g (BO, BI)` by `[right; 1]ᵀ` and by `leftᵀ`: the gradients of `left`, of the rows' sums, of `right`."""
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
def _token_sums_kernel(
    dy, y, sums, plan, grad, tokens, outs, span, PLANNED: tl.constexpr, TO: tl.constexpr, TN: tl.constexpr
):
    """Over `span` tokens: the sum of dy; the sum of dy ⊙ y where A scales rows; dyᵀ·(x·1ᵀ) where B shifts them.

    Does nothing for a layer that needs G: there the dense kernel sums dy. Without a plan, dy alone is summed.
    """
    scaled, shifted = False, False
    if PLANNED:
        if tl.load(plan + DENSE) != 0:
            return
        scaled, shifted = tl.load(plan + SCALED) != 0, tl.load(plan + SHIFTED) != 0
    o = tl.program_id(0) * TO + tl.arange(0, TO)
    om = o < outs
    first = tl.program_id(1) * span
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
        if scaled:
            seen += a * tl.load(y + place, mask=nm[:, None] & om[None, :], other=0.0).to(tl.float32)
        if shifted:
            moved += a * tl.load(sums + n, mask=nm, other=0.0)[:, None]
    tl.atomic_add(grad + outs * BIAS + o, tl.sum(total, 0), mask=om, sem="relaxed")
    if scaled:
        tl.atomic_add(grad + o, tl.sum(seen, 0), mask=om, sem="relaxed")
    if shifted:
        tl.atomic_add(grad + outs * SHIFT + o, tl.sum(moved, 0), mask=om, sem="relaxed")


@triton.jit
def _row_sums(x, sums, tokens, ins, BN: tl.constexpr, BI: tl.constexpr):
    """`sums (tokens,)` of the rows of x, spread over all programs of a launch."""
    for first in range(tl.program_id(0) * BN, tokens, tl.num_programs(0) * BN):
        n = first + tl.arange(0, BN)
        acc = tl.zeros((BN, BI), tl.float32)
        for start in range(0, ins, BI):
            i = start + tl.arange(0, BI)
            mask = (n < tokens)[:, None] & (i < ins)[None, :]
            acc += tl.load(x + n[:, None].to(tl.int64) * ins + i[None, :], mask=mask, other=0.0).to(tl.float32)
        tl.store(sums + n, tl.sum(acc, 1), mask=n < tokens)


def factor_gradient(
    dy: Tensor,
    x: Tensor,
    y: Tensor | None,
    base: Tensor,
    factors: Tensor,
    plan: Tensor,
    shape: Shape,
    bases: Bases | None = None,
) -> Tensor:
    """The raw gradient `(width,)` of the factors (`gradients`).

    `dy (N, out)`, `x (N, in)` and, if it is kept, `y (N, out)` in one dtype; `base`, `factors` float32. Partial sums
    are added in no fixed order, as in cuDNN's attention, so runs on a GPU are not reproducible to the last bit.
    """
    dy, x = dy.contiguous(), x.contiguous()
    grad = torch.zeros_like(factors)
    sums = torch.empty(len(dy), dtype=torch.float32, device=dy.device)
    _dense_gradient(dy, x, base, factors, plan, grad, sums, shape, bases or (base, base))
    sum_tokens(dy, dy if y is None else y.contiguous(), sums, plan, grad)
    return grad


def sum_tokens(dy: Tensor, y: Tensor, sums: Tensor, plan: Tensor | None, grad: Tensor) -> None:
    """Add what `_token_sums_kernel` gives to `grad`; without a plan, the sum of dy."""
    tokens, outs = dy.shape
    columns, rows = THIN_TILE
    blocks = triton.cdiv(outs, columns)
    span = triton.cdiv(triton.cdiv(tokens, max(1, THIN_WAVES * processors(dy.device) // blocks)), rows) * rows
    given = grad if plan is None else plan
    _token_sums_kernel[(blocks, triton.cdiv(tokens, span))](
        dy, y, sums, given, grad, tokens, outs, span, PLANNED=plan is not None, TO=columns, TN=rows, num_warps=8
    )


def _dense_gradient(
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
    outs, ins = shape.out_features, shape.in_features
    tile_o, tile_i, tile_n = at_most(DENSE_TILE[0], outs), at_most(DENSE_TILE[1], ins), DENSE_TILE[2]
    tiles_o, tiles_i = triton.cdiv(outs, tile_o), triton.cdiv(ins, tile_i)
    splits, span = splits_of(len(dy), tiles_o * tiles_i, tile_n, PROGRAMS * processors(dy.device))
    _dense_kernel[(splits * tiles_o * tiles_i,)](
        dy, x, base, factors, plan, grad, sums, *bases, len(dy), outs, ins, tiles_o, tiles_i, span,
        RA=shape.scale_rank, RB=shape.shift_rank, ENTRIES=shape.entries, BO=tile_o, BI=tile_i, BN=tile_n,
        LEAST=LEAST_COLUMNS, **columns_of(shape), **DENSE_OPTIONS,
    )  # fmt: skip


def columns_of(shape: Shape) -> dict[str, int]:
    """Columns of `_reduce`'s products for A and for the shift, padded to what tensor cores take."""
    ranks = {"TA": shape.scale_rank, "TB": shape.shift_rank}
    return {name: max(LEAST_COLUMNS, triton.next_power_of_2(rank + 1)) for name, rank in ranks.items()}


DENSE_TILE = 128, 128, 32
"""Outputs, inputs and tokens of a tile of the dense gradient."""
DENSE_OPTIONS = {"num_warps": 4, "num_stages": 5}
"""How the kernel of that tile is compiled."""
THIN_TILE, THIN_WAVES = (64, 64), 4
"""Outputs and tokens of a tile of the sums over tokens, and programs per multiprocessor."""
LEAST_COLUMNS = 16
"""The fewest columns of a tensor core's operand: the ranks and a column of ones are padded to it."""
PROGRAMS = 2
"""Tiles of the dense gradient that a multiprocessor holds at a time: while one is reduced, another one multiplies."""
MOST_PARTS = 8
"""Of the tokens, unless so many leave places empty."""
LEAST_BLOCKS = 4
"""Blocks of tokens that a program multiplies, if there are as many, before it reduces its tile."""
ENOUGH = 0.8
"""A launch that keeps this fraction of the multiprocessors busy until its end is not split any further."""


@functools.cache
def processors(device: torch.device) -> int:
    """Multiprocessors of a GPU; on a CPU, where Triton interprets the kernels, those of an H100."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 132


def at_most(tile: int, length: int) -> int:
    """A tile no larger than it has to be, and no smaller than tensor cores take."""
    return min(tile, max(LEAST_COLUMNS, int(triton.next_power_of_2(length))))


def splits_of(tokens: int, tiles: int, block: int, places: int) -> tuple[int, int]:
    """The number of parts of the tokens with which the tiles fill `places` evenly, and the tokens of a part.

    A layer of one tile, as a convolution of 64 channels is, has as many parts as there are places; none has fewer than
    `LEAST_BLOCKS` blocks of tokens, if there are as many.
    """
    best, even = 1, 0.0
    for splits in range(1, max(1, min(max(MOST_PARTS, places // tiles), tokens // (LEAST_BLOCKS * block))) + 1):
        programs = tiles * splits
        share = programs / (-(-programs // places) * places)
        if share > even + 0.05 and even < ENOUGH:
            best, even = splits, share
    span = -(-tokens // (best * block)) * block
    return -(-tokens // span), span
