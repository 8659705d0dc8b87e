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

from glorasearch.fused.bank import CONSTANT, LEAST_SCALE, VECTOR, Bank, Shape


@triton.jit
def _line(flat, entry, kind, layer, index, mask):
    """A choice `vector` or `constant` at some indices, zeros where another kind is drawn."""
    vector = flat + tl.load(entry + 6) + layer * tl.load(entry + 7) + index * tl.load(entry + 8)
    constant = flat + tl.load(entry + 9) + layer * tl.load(entry + 10) + index * tl.load(entry + 11)
    kinds = kind + 0 * index
    found = tl.load(vector, mask=mask & (kinds == 2), other=0.0)
    return found + tl.load(constant, mask=mask & (kinds == 1), other=0.0)


@triton.jit
def _unchanged(codes, last, row):
    """Whether a layer has the choices that it had in `last`."""
    t = tl.arange(0, 16)
    now = tl.load(codes + row + t, mask=t < 10, other=0)
    before = tl.load(last + row + t, mask=t < 10, other=0)
    return tl.sum((now != before).to(tl.int32), 0) == 0


@triton.jit
def _factors_kernel(
    flat, table, base_bias, codes, last, positions, factors, prompts, plan, outs, ins, width, least,
    RA: tl.constexpr, RB: tl.constexpr, RC: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_PROMPT: tl.constexpr,
    ALL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The factors `(L, width)` of a path from the storages, without W0·C in the bias, the prompts `(L, in)`, the plan.

    `table (5, 4, 3)` says where the parts down, up, vector and constant of A to E lie in `flat`: first element, stride
    of layers, stride of elements. Unless `ALL`, a layer whose choices are those of `last` is left as it is.
    """
    layer = tl.program_id(0).to(tl.int64)
    row = tl.load(positions + layer) * 10
    if not ALL:  # noqa: SIM102 - the other test is compiled only where this one says so
        if _unchanged(codes, last, row):
            return
    o = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    i = o
    om, im = o < outs, i < ins
    own = factors + layer * width
    a_kind, b_kind, c_kind = tl.load(codes + row), tl.load(codes + row + 2), tl.load(codes + row + 4)
    a_rank = tl.where(a_kind == 3, tl.load(codes + row + 1), 0)
    b_rank = tl.where(b_kind == 3, tl.load(codes + row + 3), 0)
    scale = _line(flat, table, a_kind, layer, o, om)
    tl.store(own + o, scale, mask=om)
    tl.store(own + outs + o, _line(flat, table + 12, b_kind, layer, o, om), mask=om)
    bias = _line(flat, table + 48, tl.load(codes + row + 8), layer, o, om)
    if HAS_BIAS:
        d = _line(flat, table + 36, tl.load(codes + row + 6), layer, o, om)
        bias += tl.load(base_bias + layer * outs + o, mask=om, other=0.0) * (1.0 + d)
    tl.store(own + 2 * outs + o, bias, mask=om)
    left, right = own + 3 * outs + o * (RA + RB), own + 3 * outs + outs * (RA + RB) + i
    for k in tl.static_range(RA):
        down = flat + tl.load(table) + layer * tl.load(table + 1) + o * RA + k
        tl.store(left + k, tl.load(down, mask=om & (0 * o + k < a_rank), other=0.0), mask=om)
        up = flat + tl.load(table + 3) + layer * tl.load(table + 4) + k * ins + i
        tl.store(right + k * ins, tl.load(up, mask=im, other=0.0), mask=im)
    for k in tl.static_range(RB):
        down = flat + tl.load(table + 12) + layer * tl.load(table + 13) + o * RB + k
        tl.store(left + RA + k, tl.load(down, mask=om & (0 * o + k < b_rank), other=0.0), mask=om)
        up = flat + tl.load(table + 15) + layer * tl.load(table + 16) + k * ins + i
        tl.store(right + (RA + k) * ins, tl.load(up, mask=im, other=0.0), mask=im)
    if HAS_PROMPT:
        c = _line(flat, table + 24, c_kind, layer, i, im)
        c_rank = tl.where(c_kind == 3, tl.load(codes + row + 5), 0)
        for k in tl.static_range(RC):
            down = flat + tl.load(table + 24) + layer * tl.load(table + 25) + i * RC + k
            up = tl.load(flat + tl.load(table + 27) + layer * tl.load(table + 28) + k)
            c += tl.load(down, mask=im & (0 * i + k < c_rank), other=0.0) * up
        tl.store(prompts + layer * ins + i, c, mask=im)
    scaled = (a_kind == 1) | (a_kind == 2)
    if scaled & (tl.min(tl.where(om, tl.abs(1.0 + scale), 1.0), 0) < least):
        tl.store(plan + layer * 3, 1)
    if tl.program_id(1) == 0:
        if (a_kind == 3) | (b_kind == 3):
            tl.store(plan + layer * 3, 1)
        tl.store(plan + layer * 3 + 1, scaled.to(tl.int32))
        tl.store(plan + layer * 3 + 2, ((b_kind == 1) | (b_kind == 2)).to(tl.int32))


@triton.jit
def _merge_kernel(
    base, factors, prompts, parts, codes, last, positions, weight, outs, ins, width,
    RA: tl.constexpr, RB: tl.constexpr, HAS_PROMPT: tl.constexpr, ALL: tl.constexpr, BO: tl.constexpr, BI: tl.constexpr,
):  # fmt: skip
    """A tile of W from the factors; and this tile's part of W0·C, `parts (L, tiles_in, out)`."""
    layer = tl.program_id(0).to(tl.int64)
    if not ALL:  # noqa: SIM102
        if _unchanged(codes, last, tl.load(positions + layer) * 10):
            return
    o = tl.program_id(1) * BO + tl.arange(0, BO)
    i = tl.program_id(2) * BI + tl.arange(0, BI)
    om, im = o < outs, i < ins
    both = om[:, None] & im[None, :]
    place = layer * outs * ins + o[:, None].to(tl.int64) * ins + i[None, :]
    w0 = tl.load(base + place, mask=both, other=0.0)
    own = factors + layer * width
    left, right = own + 3 * outs + o * (RA + RB), own + 3 * outs + outs * (RA + RB) + i
    gain = tl.zeros((BO, BI), tl.float32) + 1.0 + tl.load(own + o, mask=om, other=0.0)[:, None]
    for k in tl.static_range(RA):
        gain += tl.load(left + k, mask=om, other=0.0)[:, None] * tl.load(right + k * ins, mask=im, other=0.0)[None, :]
    w = w0 * gain + tl.load(own + outs + o, mask=om, other=0.0)[:, None]
    for k in tl.static_range(RA, RA + RB):
        w += tl.load(left + k, mask=om, other=0.0)[:, None] * tl.load(right + k * ins, mask=im, other=0.0)[None, :]
    tl.store(weight + place, w.to(weight.dtype.element_ty), mask=both)
    if HAS_PROMPT:
        c = tl.load(prompts + layer * ins + i, mask=im, other=0.0)
        part = parts + (layer * tl.num_programs(2) + tl.program_id(2)) * outs + o
        tl.store(part, tl.sum(w0 * c[None, :], 1), mask=om)


@triton.jit
def _dense_kernel(
    dy, x, base, factors, plan, grad, tokens, outs, ins, tiles_o, tiles_i, span,
    RA: tl.constexpr, RB: tl.constexpr, T: tl.constexpr, BO: tl.constexpr, BI: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """A tile `(BO, BI)` of G over `span` tokens, reduced into the factors' gradients at once; G is never stored.

    Programs that run together go through the same tokens, so that these are read from memory once.
    """
    if tl.load(plan) == 0:
        return
    split, tile = tl.program_id(0) // (tiles_o * tiles_i), tl.program_id(0) % (tiles_o * tiles_i)
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
    """Multiply `g (BO, BI)` by `[right; 1]ᵀ` and by `leftᵀ`: the gradients of `left`, of a row's total, of `right`."""
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
def _token_sums_kernel(dy, y, sums, plan, grad, tokens, outs, span, TO: tl.constexpr, TN: tl.constexpr):
    """Over `span` tokens: the sum of dy; that of dy ⊙ y where A scales rows; dyᵀ·(x·1ᵀ) where B shifts them."""
    thin = tl.load(plan) == 0
    scaled, shifted = (tl.load(plan + 1) != 0) & thin, (tl.load(plan + 2) != 0) & thin
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
    tl.atomic_add(grad + 2 * outs + o, tl.sum(total, 0), mask=om, sem="relaxed")
    if scaled:
        tl.atomic_add(grad + o, tl.sum(seen, 0), mask=om, sem="relaxed")
    if shifted:
        tl.atomic_add(grad + outs + o, tl.sum(moved, 0), mask=om, sem="relaxed")


@triton.jit
def _row_sums_kernel(x, plan, sums, tokens, ins, BN: tl.constexpr, BI: tl.constexpr):
    """`sums (tokens,)` of the rows of x, where B shifts rows."""
    if (tl.load(plan + 2) == 0) | (tl.load(plan) != 0):
        return
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    acc = tl.zeros((BN, BI), tl.float32)
    for start in range(0, ins, BI):
        i = start + tl.arange(0, BI)
        mask = (n < tokens)[:, None] & (i < ins)[None, :]
        acc += tl.load(x + n[:, None].to(tl.int64) * ins + i[None, :], mask=mask, other=0.0).to(tl.float32)
    tl.store(sums + n, tl.sum(acc, 1), mask=n < tokens)


def merge_into(
    bank: Bank,
    flat: Tensor,
    table: Tensor,
    codes: Tensor,
    weight: Tensor,
    bias: Tensor,
    factors: Tensor,
    plan: Tensor,
    *,
    last: Tensor | None = None,
) -> None:
    """Write W and b of every layer of a bank, `weight (L, out, in)` and `bias (L, out)`, its factors and its plan.

    `flat` holds the storages where `Pool.tables` says; `codes (layers, 5, 2)` are the choices; `factors (L, width)` and
    `plan (L, 3)` are what `Bank.factors` and `Bank.plan` have. Layers whose codes are those of `last` are left alone.
    """
    layers, outs, ins = bank.base.shape
    shape = bank.shape
    if bank.shape.keeps_output:
        plan.zero_()
    else:  # where outputs are not kept, every scale takes the dense way
        kinds = codes[bank.positions, 0, 0]
        plan.copy_(((kinds == CONSTANT) | (kinds == VECTOR))[:, None])
    prompts = torch.empty(layers, ins if bank.has_prompt else 0, device=flat.device)
    before = codes if last is None else last
    common = {"RA": shape.scale_rank, "RB": shape.shift_rank, "HAS_PROMPT": bank.has_prompt, "ALL": last is None}
    _factors_kernel[(layers, triton.cdiv(max(outs, ins), 128))](
        flat, table, flat if bank.base_bias is None else bank.base_bias, codes, before, bank.positions, factors,
        prompts, plan, outs, ins, bank.width, LEAST_SCALE, RC=bank.prompt_rank, HAS_BIAS=bank.base_bias is not None,
        BLOCK=128, **common,
    )  # fmt: skip
    rows, columns = MERGE_TILE
    tiles = triton.cdiv(ins, columns)
    parts = torch.zeros(layers, tiles, outs if bank.has_prompt else 0, device=flat.device)
    _merge_kernel[(layers, triton.cdiv(outs, rows), tiles)](
        bank.base, factors, prompts, parts, codes, before, bank.positions, weight, outs, ins, bank.width, BO=rows,
        BI=columns, **common,
    )  # fmt: skip
    total = factors[:, 2 * outs : 3 * outs]
    if bank.has_prompt:  # in a fixed order: a candidate's scores are the same bits every time
        total += parts.sum(1)
    bias.copy_(total)


def linear_backward(
    dy: Tensor, x: Tensor, y: Tensor | None, weight: Tensor, base: Tensor, factors: Tensor, plan: Tensor, shape: Shape
) -> tuple[Tensor, Tensor]:
    """The gradient `(N, in)` of the inputs, `dy·W`, and the raw one `(width,)` of the factors (`gradients`).

    `dy (N, out)`, `x (N, in)`, `weight (out, in)` and, where it is kept, `y (N, out)` in one dtype; `base`, `factors`
    float32. Partial sums are added up in no fixed order, as in cuDNN's attention: on a GPU no two runs are the same to
    the last bit.
    """
    dy, x = dy.contiguous(), x.contiguous()
    grad = torch.zeros_like(factors)
    sums = torch.empty(len(dy), dtype=torch.float32, device=dy.device)
    _sum_tokens(dy, x, dy if y is None else y.contiguous(), sums, plan, grad, shape)
    _dense_gradient(dy, x, base, factors, plan, grad, shape)
    return dy @ weight, grad


def _sum_tokens(dy: Tensor, x: Tensor, y: Tensor, sums: Tensor, plan: Tensor, grad: Tensor, shape: Shape) -> None:
    tokens, outs = dy.shape
    columns, rows = THIN_TILE
    blocks = triton.cdiv(outs, columns)
    span = triton.cdiv(triton.cdiv(tokens, max(1, THIN_WAVES * PROCESSORS // blocks)), rows) * rows
    _row_sums_kernel[(triton.cdiv(tokens, 16),)](x, plan, sums, tokens, shape.in_features, BN=16, BI=256, num_warps=4)
    _token_sums_kernel[(blocks, triton.cdiv(tokens, span))](
        dy, y, sums, plan, grad, tokens, outs, span, TO=columns, TN=rows, num_warps=8
    )


def _dense_gradient(
    dy: Tensor, x: Tensor, base: Tensor, factors: Tensor, plan: Tensor, grad: Tensor, shape: Shape
) -> None:
    outs, ins = shape.out_features, shape.in_features
    tile_o, tile_i, tile_n = DENSE_TILE
    tiles_o, tiles_i = triton.cdiv(outs, tile_o), triton.cdiv(ins, tile_i)
    splits, span = _splits(len(dy), tiles_o * tiles_i, tile_n)
    columns = max(LEAST_COLUMNS, triton.next_power_of_2(max(shape.scale_rank, shape.shift_rank) + 1))
    _dense_kernel[(splits * tiles_o * tiles_i,)](
        dy, x, base, factors, plan, grad, len(dy), outs, ins, tiles_o, tiles_i, span, RA=shape.scale_rank,
        RB=shape.shift_rank, T=columns, BO=tile_o, BI=tile_i, BN=tile_n, num_warps=8, num_stages=4,
    )  # fmt: skip


MERGE_TILE = 8, 256
"""Outputs and inputs of a tile that is merged at once."""
DENSE_TILE = 128, 128, 64
"""Outputs, inputs and tokens of a tile of the dense gradient."""
THIN_TILE, THIN_WAVES = (64, 64), 4
"""Outputs and tokens of a tile of the sums over tokens, and programs a processor."""
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
