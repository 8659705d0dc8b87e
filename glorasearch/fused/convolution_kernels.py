"""The Triton kernels of the gradient of a spatial convolution's factors; `gradients` has the equations in plain torch.

Activations have their channels last, so they are tokens: `dy (tokens, out)`, and `x` the pixels that filters read.
What a kernel does depends on the layer's row of the plan, as in `merge_kernels`; only the gradient of grouped filters,
which torch's own kernels compute, is made whether it is needed or not.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from glorasearch.fused.geometry import Geometry
from glorasearch.fused.gradient_kernels import (
    COUNTS,
    DENSE_OPTIONS,
    DENSE_TILE,
    LEAST_COLUMNS,
    PROGRAMS,
    at_most,
    columns_of,
    into_factors,
    processors,
    splits_of,
    sum_tokens,
)
from glorasearch.fused.gradients import Bases
from glorasearch.fused.kernel_layout import BIAS, DENSE
from glorasearch.fused.layout import Shape


@triton.jit
def _corner(n, rows, columns, SH: tl.constexpr, SW: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr):
    """The image of an output pixel, and the row and column of the input at which its patch begins."""
    column, above = n % columns, n // columns
    return above // rows, above % rows * SH - PH, column * SW - PW


@triton.jit
def _patch_tile(
    dy, x, o, c, down, right, om, im, first, last, outs, channels, rows, columns, height, width,
    SH: tl.constexpr, SW: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr, SUMS: tl.constexpr,
    BO: tl.constexpr, BI: tl.constexpr, BN: tl.constexpr, LEAST: tl.constexpr,
):  # fmt: skip
    """A tile `(BO, BI)` of dyᵀ times patches over some tokens, and the sum of dy as the columns `(BO, LEAST)` of a
    product; `c (1, BI)`, `down` and `right`, one for all or `(1, BI)`, are the channels and the places of the taps."""
    acc = tl.zeros((BO, BI), tl.float32)
    total = tl.zeros((BO, LEAST), tl.float32)
    for start in range(first, last, BN):
        n = start + tl.arange(0, BN)
        nm = n < last
        a = tl.load(dy + n[:, None].to(tl.int64) * outs + o[None, :], mask=nm[:, None] & om[None, :], other=0.0)
        image, top, side = _corner(n, rows, columns, SH, SW, PH, PW)
        h, w = top[:, None] + down, side[:, None] + right
        inside = (h >= 0) & (h < height) & (w >= 0) & (w < width) & nm[:, None]
        place = (image[:, None].to(tl.int64) * height + h) * width + w
        b = tl.load(x + place * channels + c, mask=inside & im[None, :], other=0.0)
        acc = tl.dot(tl.trans(a), b, acc, input_precision="ieee")
        if SUMS:
            total = tl.dot(tl.trans(a), tl.full((BN, LEAST), 1.0, a.dtype), total, input_precision="ieee")
    return acc, total


@triton.jit(do_not_specialize=COUNTS)
def _patches_kernel(
    dy, x, base, factors, plan, grad, bases_left, bases_right, tokens, outs, ins, channels, rows, columns, height,
    width, tiles_o, tiles_i, span,
    KW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr,
    DH: tl.constexpr, DW: tl.constexpr, TAPS: tl.constexpr, BY_TAP: tl.constexpr, RA: tl.constexpr, RB: tl.constexpr,
    TA: tl.constexpr, TB: tl.constexpr, ENTRIES: tl.constexpr, BO: tl.constexpr, BI: tl.constexpr, BN: tl.constexpr,
    LEAST: tl.constexpr,
):  # fmt: skip
    """A tile `(BO, BI)` of G over `span` tokens, reduced into the factors' gradients at once, for a convolution without
    groups; G is never stored, nor are patches.

    The columns of a tile are channels of one tap, which lie side by side in memory, or with few channels whatever comes
    in the order of the filters. The first tile of every row of tiles also sums dy.
    """
    if tl.load(plan + DENSE) == 0:
        return
    split, tile = tl.program_id(0) // (tiles_o * tiles_i), tl.program_id(0) % (tiles_o * tiles_i)
    to, ti = tile // tiles_i, tile % tiles_i
    o = to * BO + tl.arange(0, BO)
    lane = tl.arange(0, BI)
    if BY_TAP:
        tap = ti % TAPS
        c = ti // TAPS * BI + lane
        down, right = tap // KW * DH, tap % KW * DW
    else:
        tap = (ti * BI + lane) % TAPS
        c = (ti * BI + lane) // TAPS
        down, right = (tap // KW * DH)[None, :], (tap % KW * DW)[None, :]
    i = tl.where(c < channels, c * TAPS + tap, ins)
    om, im = o < outs, i < ins
    first = split * span
    last = tl.minimum(first + span, tokens)
    if ti == 0:
        acc, total = _patch_tile(
            dy, x, o, c[None, :], down, right, om, im, first, last, outs, channels, rows, columns, height, width,
            SH, SW, PH, PW, True, BO, BI, BN, LEAST,
        )  # fmt: skip
        column = tl.arange(0, LEAST)[None, :]
        at_bias = grad + outs * BIAS + o[:, None] + 0 * column
        tl.atomic_add(at_bias, total, mask=om[:, None] & (column == 0), sem="relaxed")
    else:
        acc, total = _patch_tile(
            dy, x, o, c[None, :], down, right, om, im, first, last, outs, channels, rows, columns, height, width,
            SH, SW, PH, PW, False, BO, BI, BN, LEAST,
        )  # fmt: skip
    dtype: tl.constexpr = x.dtype.element_ty
    into_factors(
        acc, base, factors, plan, grad, bases_left, bases_right, o, i, outs, ins, dtype, RA, RB, TA, TB, ENTRIES, BN
    )


@triton.jit(do_not_specialize=["tokens", "span"])
def _depthwise_kernel(
    dy, x, plan, found, tokens, outs, channels, rows, columns, height, width, span,
    KH: tl.constexpr, KW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr,
    DH: tl.constexpr, DW: tl.constexpr, EACH: tl.constexpr, WIDE: tl.constexpr, BO: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """One row of taps of the filters of BO outputs over `span` tokens, added to G, `found (out, height · width)`.

    Output o reads channel o // EACH; `WIDE` is the width of a filter, padded to a power of two.
    """
    if tl.load(plan + DENSE) == 0:
        return
    o = tl.program_id(0) * BO + tl.arange(0, BO)
    down = tl.program_id(1)
    om = o < outs
    taps = tl.arange(0, WIDE)
    tm = taps < KW
    acc = tl.zeros((BN, WIDE, BO), tl.float32)
    first = tl.program_id(2) * span
    last = tl.minimum(first + span, tokens)
    for start in range(first, last, BN):
        n = start + tl.arange(0, BN)
        nm = n < last
        a = tl.load(dy + n[:, None].to(tl.int64) * outs + o[None, :], mask=nm[:, None] & om[None, :], other=0.0)
        image, top, side = _corner(n, rows, columns, SH, SW, PH, PW)
        h = top + down * DH
        w = side[:, None] + taps[None, :] * DW
        inside = ((h >= 0) & (h < height) & nm)[:, None] & (w >= 0) & (w < width) & tm[None, :]
        place = (image.to(tl.int64) * height + h)[:, None] * width + w
        at = x + place[:, :, None] * channels + (o // EACH)[None, None, :]
        b = tl.load(at, mask=inside[:, :, None] & om[None, None, :], other=0.0)
        acc += a.to(tl.float32)[:, None, :] * b.to(tl.float32)
    total = tl.sum(acc, 0)
    at_found = found + o[None, :] * (KH * KW) + down * KW + taps[:, None]
    tl.atomic_add(at_found, total, mask=tm[:, None] & om[None, :], sem="relaxed")


@triton.jit
def _reduce_kernel(
    found, base, factors, plan, grad, bases_left, bases_right, outs, ins, dtype: tl.constexpr, RA: tl.constexpr,
    RB: tl.constexpr, TA: tl.constexpr, TB: tl.constexpr, ENTRIES: tl.constexpr, BO: tl.constexpr, BI: tl.constexpr,
    BN: tl.constexpr,
):  # fmt: skip
    """A tile of G, which was stored as `found (out, in)`, reduced into the factors' gradients."""
    if tl.load(plan + DENSE) == 0:
        return
    o = tl.program_id(0) * BO + tl.arange(0, BO)
    i = tl.program_id(1) * BI + tl.arange(0, BI)
    both = (o < outs)[:, None] & (i < ins)[None, :]
    g = tl.load(found + o[:, None].to(tl.int64) * ins + i[None, :], mask=both, other=0.0).to(tl.float32)
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
    dy, x = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (dy, x))
    rows = dy.permute(0, 2, 3, 1).reshape(-1, shape.out_features)
    grad = torch.zeros_like(factors)
    if geometry.groups == 1:
        _patches(dy, x, base, factors, plan, grad, shape, geometry, bases or (base, base))
        sum_tokens(rows, rows, rows, plan, grad)
        return grad
    if geometry.groups == x.shape[1]:
        found = _depthwise(dy, x, plan, shape, geometry)
    else:
        found = geometry.weight_gradient(dy, x, filters).reshape(base.shape)
    _reduce_stored(found, x.dtype, base, factors, plan, grad, shape, bases or (base, base))
    sum_tokens(rows, rows, rows, torch.zeros_like(plan), grad)  # here whatever the plan says
    return grad


def _patches(
    dy: Tensor,
    x: Tensor,
    base: Tensor,
    factors: Tensor,
    plan: Tensor,
    grad: Tensor,
    shape: Shape,
    geometry: Geometry,
    bases: Bases,
) -> None:
    outs, ins, channels = shape.out_features, shape.in_features, x.shape[1]
    tile_o, tile_i, tile_n = DENSE_TILE
    by_tap = channels >= LEAST_COLUMNS
    tile_o = at_most(tile_o, outs)
    tile_i = at_most(tile_i, channels if by_tap else ins)
    tiles_o = triton.cdiv(outs, tile_o)
    tiles_i = geometry.taps * triton.cdiv(channels, tile_i) if by_tap else triton.cdiv(ins, tile_i)
    tokens = dy.shape[0] * dy.shape[2] * dy.shape[3]
    splits, span = splits_of(tokens, tiles_o * tiles_i, tile_n, PROGRAMS * processors(dy.device))
    _patches_kernel[(splits * tiles_o * tiles_i,)](
        dy, x, base, factors, plan, grad, *bases, tokens, outs, ins, channels, *dy.shape[2:], *x.shape[2:], tiles_o,
        tiles_i, span, **_constants(geometry), TAPS=geometry.taps, BY_TAP=by_tap, RA=shape.scale_rank,
        RB=shape.shift_rank, ENTRIES=shape.entries, BO=tile_o, BI=tile_i, BN=tile_n, LEAST=LEAST_COLUMNS,
        **columns_of(shape), **DENSE_OPTIONS,
    )  # fmt: skip


def _depthwise(dy: Tensor, x: Tensor, plan: Tensor, shape: Shape, geometry: Geometry) -> Tensor:
    """G, `(out, height · width)` in float32; zeros where the plan does not ask for it."""
    outs, channels = shape.out_features, x.shape[1]
    found = torch.zeros(outs, geometry.taps, device=dy.device)
    high, wide = geometry.kernel
    tile_o, tile_n = DEPTHWISE_TILE
    tile_o, wide = at_most(tile_o, outs), triton.next_power_of_2(wide)
    tile_n = max(1, tile_n // wide)
    tokens = dy.shape[0] * dy.shape[2] * dy.shape[3]
    blocks = triton.cdiv(outs, tile_o)
    parts = max(1, DEPTHWISE_WAVES * processors(dy.device) // (blocks * high))
    span = triton.cdiv(triton.cdiv(tokens, parts), tile_n) * tile_n
    _depthwise_kernel[(blocks, high, triton.cdiv(tokens, span))](
        dy, x, plan, found, tokens, outs, channels, *dy.shape[2:], *x.shape[2:], span, KH=high, **_constants(geometry),
        EACH=outs // channels, WIDE=wide, BO=tile_o, BN=tile_n, num_warps=4,
    )  # fmt: skip
    return found


def _reduce_stored(
    found: Tensor,
    dtype: torch.dtype,
    base: Tensor,
    factors: Tensor,
    plan: Tensor,
    grad: Tensor,
    shape: Shape,
    bases: Bases,
) -> None:
    outs, ins = base.shape
    tile_o, tile_i = (at_most(size, length) for size, length in zip(REDUCE_TILE, (outs, ins), strict=True))
    _reduce_kernel[(triton.cdiv(outs, tile_o), triton.cdiv(ins, tile_i))](
        found, base, factors, plan, grad, *bases, outs, ins, dtype=_TYPES[dtype], RA=shape.scale_rank,
        RB=shape.shift_rank, ENTRIES=shape.entries, BO=tile_o, BI=tile_i, BN=DENSE_TILE[2], num_warps=4,
        **columns_of(shape),
    )  # fmt: skip


def _constants(geometry: Geometry) -> dict[str, int]:
    (_, wide), (down, right), (top, side), (high, across) = (
        geometry.kernel, geometry.stride, geometry.padding, geometry.dilation,
    )  # fmt: skip
    return {"KW": wide, "SH": down, "SW": right, "PH": top, "PW": side, "DH": high, "DW": across}


_TYPES = {torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}
DEPTHWISE_TILE, DEPTHWISE_WAVES = (64, 64), 8
"""Outputs of a tile, tokens times taps in a row of it, and programs per multiprocessor."""
REDUCE_TILE = 64, 128
"""Outputs and inputs of a tile of a stored gradient."""
