"""The Triton kernels of the fused step; `gradients` has their equations in plain torch.

What a kernel does for a layer depends on the layer's row of the plan, which it reads from the device: a launch whose
work is not needed ends at once. So the sequence of launches is static and a CUDA graph can hold it, while its cost
follows the path that is drawn. No kernel uses atomics: partial sums go to scratch and are added in a fixed order.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from glorasearch.fused.bank import Shape

LEAST_THIN = 16
"""Fewest columns of a projection: what a tensor core takes."""


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
def _dense_kernel(
    dy, x, base, factors, plan, rows, cols, tokens, outs, ins, steps, share, tiles, tiles_i, fragments,
    RA: tl.constexpr, RB: tl.constexpr, T: tl.constexpr,
    BO: tl.constexpr, BI: tl.constexpr, BN: tl.constexpr, HALVES: tl.constexpr,
):  # fmt: skip
    """Tiles `(BO, BI)` of G, reduced into the factors' gradients at once; G is never stored.

    The work is tiles times `steps` of BN tokens, cut evenly into a `share` for each program (stream-K); a tile that is
    cut lies in up to `fragments` programs. Partial sums: `rows (tiles_in·fragments, RA + RB + 2, out)` of scale, shift,
    left and `cols (tiles_out·fragments, RA + RB, in)` of right.
    """
    if tl.load(plan) == 0:
        return
    program = tl.program_id(0)
    at = program * share
    end = tl.minimum(at + share, tiles * steps)
    while at < end:
        tile = at // steps
        first = at - tile * steps
        last = tl.minimum(steps, first + end - at)
        ti, to = tile % tiles_i, tile // tiles_i
        o = to * BO + tl.arange(0, BO)
        i = ti * BI + tl.arange(0, BI)
        om, im = o < outs, i < ins
        acc = tl.zeros((BO, BI), tl.float32)
        for step in range(first, last):
            n = step * BN + tl.arange(0, BN)
            nm = n < tokens
            a = tl.load(dy + n[:, None].to(tl.int64) * outs + o[None, :], mask=nm[:, None] & om[None, :], other=0.0)
            b = tl.load(x + n[:, None].to(tl.int64) * ins + i[None, :], mask=nm[:, None] & im[None, :], other=0.0)
            acc = tl.dot(tl.trans(a), b, acc, input_precision="ieee")
        number = program - (tile * steps) // share
        t = tl.arange(0, T)
        row = rows + (ti * fragments + number) * (RA + RB + 2) * outs + o[:, None]
        col = cols + (to * fragments + number) * (RA + RB) * ins
        rows_a = tl.zeros((BO, T), tl.float32)
        rows_b = tl.zeros((BO, T), tl.float32)
        if HALVES == 2:
            low, high = tl.split(tl.permute(tl.reshape(acc, (BO, 2, BI // 2)), (0, 2, 1)))
            half = tl.arange(0, BI // 2)
            rows_a, rows_b = _reduce_tile(
                low, rows_a, rows_b, base, factors, col, o, ti * BI + half, t, outs, ins, x.dtype.element_ty, RA, RB, T
            )
            rows_a, rows_b = _reduce_tile(
                high, rows_a, rows_b, base, factors, col, o, ti * BI + BI // 2 + half, t, outs, ins,
                x.dtype.element_ty, RA, RB, T,
            )  # fmt: skip
        else:
            rows_a, rows_b = _reduce_tile(
                acc, rows_a, rows_b, base, factors, col, o, i, t, outs, ins, x.dtype.element_ty, RA, RB, T
            )
        place_a = tl.where(t < RA, t + 2, 0)[None, :] * outs
        place_b = tl.where(t < RB, t + RA + 2, 1)[None, :] * outs
        mask_a, mask_b = om[:, None] & (t <= RA)[None, :], om[:, None] & (t <= RB)[None, :]
        tl.store(row + place_a, rows_a, mask=mask_a)
        tl.store(row + place_b, rows_b, mask=mask_b)
        if last == steps:  # the tile ends here: its fragments that do not exist are zeros
            for absent in range(number + 1, fragments):
                skip = (absent - number) * (RA + RB + 2) * outs
                tl.store(row + skip + place_a, tl.zeros((BO, T), tl.float32), mask=mask_a)
                tl.store(row + skip + place_b, tl.zeros((BO, T), tl.float32), mask=mask_b)
                for k in tl.static_range(RA + RB):
                    away = col + ((absent - number) * (RA + RB) + k) * ins + i
                    tl.store(away, tl.zeros((BI,), tl.float32), mask=im)
        at += last - first


@triton.jit
def _reduce_tile(
    g, rows_a, rows_b, base, factors, col, o, i, t, outs, ins,
    dtype: tl.constexpr, RA: tl.constexpr, RB: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    """Multiply a piece of G, and of H = G ⊙ W0, by the factors: their rows are added up, their columns stored."""
    om, im = o < outs, i < ins
    left = factors + 3 * outs + o[:, None] * (RA + RB) + t[None, :]
    right = factors + 3 * outs + outs * (RA + RB) + t[None, :] * ins + i[:, None]
    w = tl.load(base + o[:, None].to(tl.int64) * ins + i[None, :], mask=om[:, None] & im[None, :], other=0.0)
    h = (g * w).to(dtype)
    q = tl.load(right, mask=(t < RA)[None, :] & im[:, None], other=0.0)
    q = tl.where((t == RA)[None, :] & im[:, None], 1.0, q)
    rows_a = tl.dot(h, q.to(dtype), rows_a, input_precision="ieee")
    if RA > 0:
        p = tl.load(left, mask=(t < RA)[None, :] & om[:, None], other=0.0).to(dtype)
        part = tl.dot(tl.trans(p), h, input_precision="ieee")
        tl.store(col + t[:, None] * ins + i[None, :], part, mask=(t < RA)[:, None] & im[None, :])
    g = g.to(dtype)
    u = tl.load(right + RA * ins, mask=(t < RB)[None, :] & im[:, None], other=0.0)
    u = tl.where((t == RB)[None, :] & im[:, None], 1.0, u)
    rows_b = tl.dot(g, u.to(dtype), rows_b, input_precision="ieee")
    if RB > 0:
        d = tl.load(left + RA, mask=(t < RB)[None, :] & om[:, None], other=0.0).to(dtype)
        part = tl.dot(tl.trans(d), g, input_precision="ieee")
        tl.store(col + (RA + t[:, None]) * ins + i[None, :], part, mask=(t < RB)[:, None] & im[None, :])
    return rows_a, rows_b


@triton.jit
def _project_kernel(
    dy, x, factors, plan, p, q, tokens, outs, ins,
    RA: tl.constexpr, RB: tl.constexpr, T: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """`p = x·[U; 1]ᵀ (tokens, T)`, where B is drawn, and `q = dy·D (tokens, T)`, where it is a product."""
    second = tl.program_id(1)
    if tl.load(plan + 2 + second) == 0:
        return
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    nm = n < tokens
    t = tl.arange(0, T)
    acc = tl.zeros((BN, T), tl.float32)
    if second == 0:
        right = factors + 3 * outs + outs * (RA + RB) + RA * ins
        for start in range(0, ins, BK):
            k = start + tl.arange(0, BK)
            km = k < ins
            a = tl.load(x + n[:, None].to(tl.int64) * ins + k[None, :], mask=nm[:, None] & km[None, :], other=0.0)
            f = tl.load(right + t[None, :] * ins + k[:, None], mask=(t[None, :] < RB) & km[:, None], other=0.0)
            f = tl.where((t[None, :] == RB) & km[:, None], 1.0, f)
            acc = tl.dot(a, f.to(a.dtype), acc, input_precision="ieee")
        tl.store(p + n[:, None] * T + t[None, :], acc.to(p.dtype.element_ty), mask=nm[:, None])
    else:
        left = factors + 3 * outs + RA
        for start in range(0, outs, BK):
            k = start + tl.arange(0, BK)
            km = k < outs
            a = tl.load(dy + n[:, None].to(tl.int64) * outs + k[None, :], mask=nm[:, None] & km[None, :], other=0.0)
            f = tl.load(left + k[:, None] * (RA + RB) + t[None, :], mask=(t[None, :] < RB) & km[:, None], other=0.0)
            acc = tl.dot(a, f.to(a.dtype), acc, input_precision="ieee")
        tl.store(q + n[:, None] * T + t[None, :], acc.to(q.dtype.element_ty), mask=nm[:, None])


@triton.jit
def _token_sums_kernel(
    dy, x, y, plan, p, q, rows, cols, tokens, outs, ins, span, out_blocks,
    T: tl.constexpr, BC: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Sums over `span` tokens: `rows (splits, T + 2, out)` of dy, dy ⊙ y and dyᵀ·p; `cols (splits, T, in)` of qᵀ·x."""
    block, split = tl.program_id(0), tl.program_id(1)
    first = split * span
    last = tl.minimum(first + span, tokens)
    t = tl.arange(0, T)
    if block < out_blocks:
        o = block * BC + tl.arange(0, BC)
        om = o < outs
        scaled, shifted = tl.load(plan + 1), tl.load(plan + 2)
        total = tl.zeros((BC,), tl.float32)
        seen = tl.zeros((BC,), tl.float32)
        acc = tl.zeros((T, BC), tl.float32)
        for start in range(first, last, BN):
            n = start + tl.arange(0, BN)
            both = (n < last)[:, None] & om[None, :]
            place = n[:, None].to(tl.int64) * outs + o[None, :]
            a = tl.load(dy + place, mask=both, other=0.0)
            wide = a.to(tl.float32)
            total += tl.sum(wide, 0)
            if scaled != 0:
                seen += tl.sum(wide * tl.load(y + place, mask=both, other=0.0).to(tl.float32), 0)
            if shifted != 0:
                f = tl.load(p + n[:, None] * T + t[None, :], mask=(n < last)[:, None], other=0.0)
                acc = tl.dot(tl.trans(f), a, acc, input_precision="ieee")
        row = rows + split * (T + 2) * outs + o
        tl.store(row, total, mask=om)
        if scaled != 0:
            tl.store(row + outs, seen, mask=om)
        if shifted != 0:
            tl.store(row[None, :] + (t[:, None] + 2) * outs, acc, mask=om[None, :] & (t[:, None] >= 0))
    else:
        if tl.load(plan + 3) == 0:
            return
        i = (block - out_blocks) * BC + tl.arange(0, BC)
        im = i < ins
        acc = tl.zeros((T, BC), tl.float32)
        for start in range(first, last, BN):
            n = start + tl.arange(0, BN)
            nm = n < last
            a = tl.load(x + n[:, None].to(tl.int64) * ins + i[None, :], mask=nm[:, None] & im[None, :], other=0.0)
            f = tl.load(q + n[:, None] * T + t[None, :], mask=nm[:, None], other=0.0)
            acc = tl.dot(tl.trans(f), a, acc, input_precision="ieee")
        tl.store(cols + split * T * ins + t[:, None] * ins + i[None, :], acc, mask=im[None, :] & (t[:, None] >= 0))


@triton.jit
def _finish_kernel(
    factors, plan, dense_rows, dense_cols, thin_rows, thin_cols, grad, outs, ins, n_rows, n_cols, splits, out_blocks,
    RA: tl.constexpr, RB: tl.constexpr, T: tl.constexpr, BC: tl.constexpr, BS: tl.constexpr,
):  # fmt: skip
    """Add the partial sums up and write the gradient `(width,)` of one layer's factors."""
    block, kind = tl.program_id(0), tl.program_id(1)
    dense = tl.load(plan)
    s = tl.arange(0, BS)
    if block < out_blocks:
        # kind 0: bias, and scale and shift where they follow from it; kind 2 + k: column k of left
        o = block * BC + tl.arange(0, BC)
        om = o < outs
        if kind == 0:
            bias_grad = _column_sum(thin_rows + o, (T + 2) * outs, splits, om, s, BC, BS)
            tl.store(grad + 2 * outs + o, bias_grad, mask=om)
            d_scale = tl.zeros((BC,), tl.float32)
            d_shift = tl.zeros((BC,), tl.float32)
            if dense != 0:
                d_scale = _column_sum(dense_rows + o, (RA + RB + 2) * outs, n_rows, om, s, BC, BS)
                d_shift = _column_sum(dense_rows + outs + o, (RA + RB + 2) * outs, n_rows, om, s, BC, BS)
            else:
                if tl.load(plan + 2) != 0:
                    d_shift = _column_sum(thin_rows + (RB + 2) * outs + o, (T + 2) * outs, splits, om, s, BC, BS)
                if tl.load(plan + 1) != 0:
                    seen = _column_sum(thin_rows + outs + o, (T + 2) * outs, splits, om, s, BC, BS)
                    seen -= tl.load(factors + 2 * outs + o, mask=om, other=0.0) * bias_grad
                    seen -= tl.load(factors + outs + o, mask=om, other=0.0) * d_shift
                    if tl.load(plan + 2) != 0:
                        for k in tl.static_range(RB):
                            down = tl.load(factors + 3 * outs + o * (RA + RB) + RA + k, mask=om, other=0.0)
                            seen -= down * _column_sum(
                                thin_rows + (k + 2) * outs + o, (T + 2) * outs, splits, om, s, BC, BS
                            )
                    d_scale = seen / (1.0 + tl.load(factors + o, mask=om, other=0.0))
            tl.store(grad + o, d_scale, mask=om)
            tl.store(grad + outs + o, d_shift, mask=om)
        elif kind <= RA + RB:
            k = kind - 1
            total = tl.zeros((BC,), tl.float32)
            if dense != 0:
                total = _column_sum(dense_rows + (k + 2) * outs + o, (RA + RB + 2) * outs, n_rows, om, s, BC, BS)
            else:
                if (k >= RA) & (tl.load(plan + 2) != 0):
                    total = _column_sum(thin_rows + (k - RA + 2) * outs + o, (T + 2) * outs, splits, om, s, BC, BS)
            tl.store(grad + 3 * outs + o * (RA + RB) + k, total, mask=om)
    else:
        i = (block - out_blocks) * BC + tl.arange(0, BC)
        im = i < ins
        k = kind - 1
        if kind > 0:
            total = tl.zeros((BC,), tl.float32)
            if dense != 0:
                total = _column_sum(dense_cols + k * ins + i, (RA + RB) * ins, n_cols, im, s, BC, BS)
            else:
                if (k >= RA) & (tl.load(plan + 3) != 0):
                    total = _column_sum(thin_cols + (k - RA) * ins + i, T * ins, splits, im, s, BC, BS)
            tl.store(grad + 3 * outs + outs * (RA + RB) + k * ins + i, total, mask=im)


@triton.jit
def _column_sum(pointers, stride, count, mask, s, BC: tl.constexpr, BS: tl.constexpr):
    total = tl.zeros((BC,), tl.float32)
    for start in range(0, count, BS):
        n = start + s
        total += tl.sum(
            tl.load(pointers[None, :] + n[:, None] * stride, mask=(n < count)[:, None] & mask[None, :], other=0.0), 0
        )
    return total


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
    dy: Tensor, x: Tensor, y: Tensor, base: Tensor, factors: Tensor, plan: Tensor, shape: Shape
) -> Tensor:
    """The gradient `(width,)` of one layer's factors; see `gradients.reference_gradient`.

    `dy (N, out)`, `x (N, in)`, `y (N, out)` in one dtype; `base`, `factors` float32.
    """
    dy, x, y = dy.contiguous(), x.contiguous(), y.contiguous()
    tokens, outs, ins = len(dy), shape.out_features, shape.in_features
    ra, rb = shape.scale_rank, shape.shift_rank
    device, rank = dy.device, shape.rank
    thin = max(LEAST_THIN, triton.next_power_of_2(max(ra, rb) + 1))  # columns of a projection: the ranks and a one
    scratch = {"dtype": torch.float32, "device": device}

    tile_o, tile_i, tile_n = DENSE_TILE
    tiles_o, tiles_i = triton.cdiv(outs, tile_o), triton.cdiv(ins, tile_i)
    steps = triton.cdiv(tokens, tile_n)
    programs = min(PROCESSORS, tiles_o * tiles_i * steps)
    share = triton.cdiv(tiles_o * tiles_i * steps, programs)
    fragments = (steps - 2) // share + 2 if steps > 1 else 1
    dense_rows = torch.empty(tiles_i * fragments, rank + 2, outs, **scratch)
    dense_cols = torch.empty(tiles_o * fragments, max(rank, 1), ins, **scratch)
    _dense_kernel[(programs,)](
        dy, x, base, factors, plan, dense_rows, dense_cols, tokens, outs, ins, steps, share, tiles_o * tiles_i, tiles_i,
        fragments, RA=ra, RB=rb, T=thin, BO=tile_o, BI=tile_i, BN=tile_n, HALVES=DENSE_HALVES, num_warps=DENSE_WARPS,
        num_stages=DENSE_STAGES,
    )  # fmt: skip

    p = torch.empty(tokens, thin, dtype=dy.dtype, device=device)
    q = torch.empty_like(p)
    _project_kernel[(triton.cdiv(tokens, 64), 2)](
        dy, x, factors, plan, p, q, tokens, outs, ins, RA=ra, RB=rb, T=thin, BN=64, BK=128, num_warps=4,
    )  # fmt: skip

    block = 128
    out_blocks, in_blocks = triton.cdiv(outs, block), triton.cdiv(ins, block)
    thin_splits, thin_span = _splits(tokens, out_blocks, 64, waves=4)
    thin_rows = torch.empty(thin_splits, thin + 2, outs, **scratch)
    thin_cols = torch.empty(thin_splits, thin, ins, **scratch)
    _token_sums_kernel[(out_blocks + in_blocks, thin_splits)](
        dy, x, y, plan, p, q, thin_rows, thin_cols, tokens, outs, ins, thin_span, out_blocks,
        T=thin, BC=block, BN=64, num_warps=4,
    )  # fmt: skip

    grad = torch.empty_like(factors)
    _finish_kernel[(out_blocks + in_blocks, rank + 1)](
        factors, plan, dense_rows, dense_cols, thin_rows, thin_cols, grad, outs, ins,
        tiles_i * fragments, tiles_o * fragments, thin_splits, out_blocks,
        RA=ra, RB=rb, T=thin, BC=block, BS=32, num_warps=4,
    )  # fmt: skip
    return grad


DENSE_TILE, DENSE_WARPS, DENSE_STAGES, DENSE_HALVES = (128, 128, 64), 8, 4, 1
PROCESSORS = 132
"""Multiprocessors that a launch is spread over (an H100 has 132); only the speed depends on it."""


def _splits(tokens: int, tiles: int, block: int, waves: int = 6) -> tuple[int, int]:
    """Into how many parts to cut the tokens so that the launch fills the processors evenly, and tokens of a part."""
    best = (0.0, 1)
    for splits in range(1, max(1, min(tokens // (4 * block), waves * PROCESSORS // tiles)) + 1):
        programs = tiles * splits
        even = programs / (-(-programs // PROCESSORS) * PROCESSORS)
        best = max(best, (round(even, 2), -splits), key=lambda found: (found[0], found[1]))
    splits = abs(best[1])
    span = -(-tokens // (splits * block)) * block
    return -(-tokens // span), span
